"""Lesion boxes made by machine."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.reading import read_image
from tests.factories import as_png
from tests.training.tiny import sample, sample_list
from training.boxes.generate import COLUMNS, compare_boxes, find_box, iou, write_boxes
from training.boxes.saliency import METHODS, border_contrast
from training.data.tables import read_boxes
from training.errors import DataError

SKIN, LESION = (205, 160, 140), (110, 70, 60)


def lesion_picture(
    width: int,
    height: int,
    center: tuple,
    axes: tuple,
    *,
    corners: bool,
    hairs: bool,
    seed: int = 0,
) -> np.ndarray:
    """A dark ellipse on noisy skin, with a dermatoscope's dark corners and hairs if wanted."""
    random = np.random.default_rng(seed)
    picture = np.full((height, width, 3), SKIN, np.float32)
    cv2.ellipse(picture, (center, (2 * axes[0], 2 * axes[1]), 0), LESION, -1)
    picture = cv2.GaussianBlur(picture, (0, 0), 2) + random.normal(0, 8, picture.shape)
    if hairs:
        for _ in range(9):
            ends = random.integers(0, (width, height), (2, 2))
            cv2.line(picture, ends[0].tolist(), ends[1].tolist(), (35, 25, 20), 2)
    if corners:
        y, x = np.mgrid[:height, :width]
        far = np.hypot(x - width / 2, y - height / 2) > 0.56 * max(width, height)
        picture[far] = 12
    return picture.clip(0, 255).astype(np.uint8)


PLACES = [((150, 110), (50, 38)), ((120, 95), (36, 30)), ((175, 130), (60, 45))]


@pytest.mark.parametrize("hairs", [False, True])
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize(("center", "axes"), PLACES)
def test_a_dark_lesion_is_found_in_spite_of_dark_corners_and_hairs(center, axes, corners, hairs):
    picture = lesion_picture(300, 225, center, axes, corners=corners, hairs=hairs)

    found = find_box(border_contrast(picture))

    (x, y), (a, b) = center, axes
    assert iou(found.box, np.array([x - a, y - b, x + a, y + b])) > 0.6
    assert 0 < found.confidence <= 1


def test_dark_corners_are_never_salient():
    picture = lesion_picture(300, 225, *PLACES[0], corners=True, hairs=False)

    saliency = border_contrast(picture)

    assert saliency[:12, :12].max() == saliency[-12:, -12:].max() == 0
    assert saliency.dtype == np.float32
    assert saliency.shape == (225, 300)
    assert saliency.max() == 1
    assert saliency[110, 150] > 0.5


def test_gray_and_color_of_the_same_shades_give_the_same_saliency():
    gray = lesion_picture(120, 90, (60, 45), (20, 15), corners=False, hairs=False)[..., 0]

    np.testing.assert_array_equal(
        border_contrast(gray), border_contrast(np.repeat(gray[..., None], 3, axis=2))
    )


@pytest.mark.parametrize("shape", [(225, 300, 3), (40, 31), (3, 3), (1, 1), (1, 200, 3)])
def test_a_picture_without_a_lesion_gets_the_central_box_and_no_confidence(shape):
    saliency = border_contrast(np.full(shape, 150, np.uint8))

    found = find_box(saliency)

    height, width = shape[:2]
    assert np.isfinite(saliency).all()
    assert found.confidence == 0
    expected = [0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height]
    np.testing.assert_allclose(found.box, expected)


def blob(*box: int, shape: tuple = (200, 200), value: float = 1.0) -> np.ndarray:
    saliency = np.zeros(shape, np.float32)
    saliency[box[1] : box[3], box[0] : box[2]] = value
    return saliency


def test_the_largest_blob_is_boxed_to_the_pixel():
    saliency = np.maximum(blob(50, 60, 120, 100), blob(140, 140, 170, 170))

    np.testing.assert_array_equal(find_box(saliency).box, [50, 60, 120, 100])


def test_a_blob_along_the_border_and_a_speck_are_no_lesion():
    along = np.maximum(blob(0, 0, 200, 40), blob(90, 90, 120, 130))
    np.testing.assert_array_equal(find_box(along).box, [90, 90, 120, 130])
    assert find_box(blob(0, 0, 200, 40)).confidence == 0
    assert find_box(blob(100, 100, 112, 112)).confidence == 0  # 0.36 % of the picture


@pytest.mark.parametrize(("scale", "box"), [(0.5, [75, 70, 105, 90]), (1.5, [45, 50, 135, 110])])
def test_boxes_are_scaled_about_their_centers(scale, box):
    np.testing.assert_allclose(find_box(blob(60, 60, 120, 100), scale=scale).box, box)


def test_a_scaled_box_ends_at_the_border():
    np.testing.assert_allclose(find_box(blob(10, 60, 110, 160), scale=1.5).box, [0, 35, 135, 185])


boxes = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2)


@given(boxes, boxes)
def test_iou_is_that_of_the_pixels(one, other):
    canvas = np.zeros((2, 40, 40), bool)
    for n, (x, y, w, h) in enumerate((one, other)):
        canvas[n, y : y + h, x : x + w] = True
    corners = [np.array([x, y, x + w, y + h], float) for x, y, w, h in (one, other)]

    assert iou(*corners) == pytest.approx((canvas[0] & canvas[1]).sum() / canvas.any(0).sum())


def made(folder: Path, *, method: str = "border") -> tuple[Path, int]:
    pictures = {
        "found.png": lesion_picture(300, 225, *PLACES[0], corners=False, hairs=False),
        "more/none.png": np.full((100, 160), 128, np.uint8),
    }
    for name, pixels in pictures.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(as_png(pixels))
    samples = sample_list(*(sample(name, 0, folder=folder) for name in pictures))
    out = folder / "out" / "boxes.csv"
    return out, write_boxes(samples, method, METHODS[method], out)


def test_a_list_of_boxes_is_written_as_a_person_would_and_marks_the_fallback(tmp_path):
    out, fallbacks = made(tmp_path)

    with out.open(newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS == ("image", "x", "y", "w", "h", "method", "confidence")
    assert [row[0] for row in rows[1:]] == ["found.png", "more/none.png"]
    assert {row[5] for row in rows[1:]} == {"border"}
    assert float(rows[1][6]) > 0
    assert rows[2][1:5] == ["32.0", "20.0", "96.0", "60.0"]
    assert float(rows[2][6]) == 0
    assert fallbacks == 1
    assert [path.name for path in out.parent.iterdir()] == ["boxes.csv"]
    read = read_boxes(out)["found.png"][0]
    expected = find_box(border_contrast(read_image(tmp_path / "found.png").pixels)).box
    np.testing.assert_allclose(read, expected, atol=0.11)


def test_a_list_of_boxes_is_complete_or_not_there(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nothing")
    out = tmp_path / "boxes.csv"

    with pytest.raises(DataError, match=r"bad\.png: not a picture"):
        write_boxes(
            sample_list(sample("bad.png", 0, folder=tmp_path)), "border", border_contrast, out
        )

    assert not out.exists()


def test_made_boxes_are_compared_with_the_hull_of_drawn_ones(tmp_path):
    (tmp_path / "made.csv").write_text("image,x,y,w,h\na,0,0,10,10\nb,0,0,10,10\nc,0,0,1,1\n")
    (tmp_path / "drawn.csv").write_text("image,x,y,w,h\na,0,0,5,10\na,5,0,5,5\nb,0,0,10,4\n")

    words = compare_boxes(tmp_path / "made.csv", tmp_path / "drawn.csv")

    assert "on 2 pictures: mean 0.700, median 0.700, above 0.5 on 50%" in words


def test_lists_without_a_common_picture_are_refused(tmp_path):
    (tmp_path / "made.csv").write_text("image,x,y,w,h\na,0,0,10,10\n")
    (tmp_path / "drawn.csv").write_text("image,x,y,w,h\nb,0,0,5,10\n")

    with pytest.raises(DataError, match=r"made\.csv and drawn\.csv have no picture in common"):
        compare_boxes(tmp_path / "made.csv", tmp_path / "drawn.csv")


def test_on_ph2_boxes_scaled_by_a_tenth_fit_those_of_dermatologists(care_data):
    drawn = read_boxes(care_data / "ph2" / "boxes.csv")

    fits = []
    for name, boxes_of_it in drawn.items():
        picture = read_image(care_data / "ph2" / "images" / name).pixels
        fits.append(iou(find_box(border_contrast(picture), scale=1.1).box, boxes_of_it[0]))

    assert len(fits) == 100
    assert np.mean(fits) >= 0.70
