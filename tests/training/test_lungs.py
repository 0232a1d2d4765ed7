"""Lung fields on chest films that are drawn."""

import cv2
import numpy as np
import pytest

from training.boxes.generate import Generator
from training.boxes.lungs import find_lungs

LEFT, RIGHT = (50, 45, 115, 195), (145, 45, 210, 195)  # of the lungs on a film of 260 x 260
HULL = np.array([50, 45, 210, 195])


def film(
    *, exposure: float = 1.0, heart: int = 0, letters: bool = False, seed: int = 0
) -> np.ndarray:
    """A chest drawn with domes, not with the outline that is looked for; uint8 (260, 260)."""
    picture = np.full((260, 260), 15, np.float32)
    cv2.rectangle(picture, (25, 0), (235, 260), 150, -1)  # body in the air
    for x0, y0, x1, y1 in (LEFT, RIGHT):
        across = (x0 + x1) // 2
        cv2.ellipse(picture, (across, y0 + 50), (across - x0, 50), 0, 0, 360, 60, -1)
        cv2.rectangle(picture, (x0, y0 + 50), (x1, y1), 60, -1)
    for y in range(40, 200, 20):
        cv2.line(picture, (50, y + 12), (210, y), 80, 3)  # ribs
    cv2.rectangle(picture, (120, 0), (140, 260), 200, -1)  # spine
    if heart:
        cv2.circle(picture, (145, 160), heart, 190, -1)
    cv2.rectangle(picture, (25, 195), (235, 260), 190, -1)  # below the diaphragm
    if letters:
        letter = cv2.putText(np.zeros((260, 260), np.uint8), "R", (5, 40), 0, 1.2, 1, 3)
        picture[letter > 0] = 255
        cv2.rectangle(picture, (0, 0), (260, 6), 255, -1)
    picture = cv2.GaussianBlur(picture, (0, 0), 3)
    picture += np.random.default_rng(seed).normal(0, 4, picture.shape)
    return (picture * exposure).clip(0, 255).astype(np.uint8)


def share_inside(inner: np.ndarray, outer: np.ndarray) -> float:
    sides = np.minimum(inner[2:], outer[2:]) - np.maximum(inner[:2], outer[:2])
    return float(np.prod(sides.clip(0)) / np.prod(inner[2:] - inner[:2]))


@pytest.mark.parametrize("letters", [False, True])
@pytest.mark.parametrize("heart", [0, 45])
@pytest.mark.parametrize("exposure", [0.4, 1.0, 1.2])
def test_lungs_are_found_whatever_the_exposure_the_heart_and_the_letters(exposure, heart, letters):
    lungs = find_lungs(film(exposure=exposure, heart=heart, letters=letters))

    assert lungs is not None
    assert share_inside(HULL, lungs.box) > 0.9
    assert share_inside(lungs.box, HULL) > 0.55
    for side, drawn in zip(lungs.sides, (LEFT, RIGHT), strict=True):
        assert share_inside(np.array(drawn), side) > 0.8
    assert 0.2 < lungs.fit <= 1


def test_the_box_goes_with_the_films_shape_and_color():
    picture = film()
    wide = cv2.resize(picture, (1040, 520), interpolation=cv2.INTER_LINEAR)

    found, stretched = find_lungs(picture), find_lungs(np.repeat(wide[..., None], 3, 2))

    np.testing.assert_allclose(stretched.box / [4, 2, 4, 2], found.box, atol=6)


@pytest.mark.parametrize("shape", [(260, 260), (1, 1), (3, 400), (50, 40, 3)])
def test_without_lungs_there_is_the_central_box_and_no_confidence(shape):
    picture = np.full(shape, 128, np.uint8)

    [found] = Generator(method="lungs")(picture)

    height, width = shape[:2]
    assert find_lungs(picture) is None
    assert found.confidence == 0
    np.testing.assert_allclose(
        found.box, [0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height], atol=1e-9
    )


def test_a_picture_that_is_no_film_has_no_lungs():
    noise = np.random.default_rng(0).integers(0, 256, (260, 260)).astype(np.uint8)

    assert find_lungs(noise) is None


def test_one_box_is_around_both_lungs_and_two_are_around_one_each():
    [both] = Generator(method="lungs")(film())
    left, right = Generator(method="lungs", most=2)(film())

    assert left.box[2] <= 130 <= right.box[0]
    np.testing.assert_allclose(both.box, [*left.box[:2], *right.box[2:]])
    assert left.confidence == right.confidence == both.confidence > 0.2


def test_within_the_lungs_the_bright_letter_is_no_lesion():
    picture = film()
    cv2.circle(picture, (80, 110), 14, 220, -1)
    cv2.rectangle(picture, (0, 200), (24, 259), 255, -1)
    lesion = np.array([66, 96, 94, 124])

    anywhere = Generator(method="fine-grained")(picture)[0].box
    [within] = Generator(method="fine-grained", within_lungs=True)(picture)

    assert share_inside(lesion, anywhere) < 0.99 or share_inside(anywhere, lesion) < 0.2
    assert share_inside(within.box, find_lungs(picture).box) > 0.9


def test_where_nothing_stands_out_within_the_lungs_their_box_is_the_fallback(monkeypatch):
    from training.boxes import generate

    monkeypatch.setitem(generate.SALIENCY, "border", lambda p: np.zeros(p.shape[:2], np.float32))

    [found] = Generator(method="border", within_lungs=True, scale=1)(film())

    assert found.confidence == 0
    np.testing.assert_allclose(found.box, find_lungs(film()).box)


def test_nearly_all_radiologists_boxes_lie_in_the_lungs(care_data):
    from imaging.reading import read_image
    from training.data.tables import read_boxes

    drawn = read_boxes(care_data / "tbx11k" / "boxes.csv")
    shares = []
    for name in sorted(drawn)[1::16]:
        lungs = find_lungs(read_image(care_data / "tbx11k" / "images" / name).pixels)
        assert lungs is not None
        shares += [share_inside(box, lungs.box) for box in drawn[name]]

    assert np.mean(shares) > 0.95
