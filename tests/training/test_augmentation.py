"""What moves the pixels moves the boxes; and what becomes of a picture on its way to a batch."""

import colorsys

import cv2
import numpy as np
import pytest
import torch

from tests.factories import make_color
from tests.training.tiny import cache_of, rectangles, sample, sample_list
from training.config import AttentionSettings, AugmentationSettings
from training.data.augmentation import Augmentation, box_corners, lesion_mask, move_pixels
from training.data.dataset import Draw, PictureDataset
from training.errors import ConfigError

SIZE = 128
BOXES = np.array([[40.0, 50.0, 70.0, 90.0]])
MOVES = {
    "rotation": {"rotation": 180.0},
    "flip left-right": {"flip_horizontal": True},
    "flip upside-down": {"flip_vertical": True},
    "zoom": {"zoom": (0.7, 1.3)},
    "aspect": {"aspect": 1.5},
    "shift": {"shift": 0.15},
    "all": {
        "rotation": 90.0,
        "flip_horizontal": True,
        "flip_vertical": True,
        "zoom": (0.8, 1.2),
        "aspect": 1.3,
        "shift": 0.1,
    },
}
COLORS = {
    "brightness": {"brightness": 0.3},
    "contrast": {"contrast": 0.5},
    "gamma": {"gamma": 0.7},
    "saturation": {"saturation": 0.8},
    "hue": {"hue": 40.0},
}


def augmentation(**options) -> Augmentation:
    return Augmentation(AugmentationSettings(**options))


def white_boxes(boxes: np.ndarray) -> np.ndarray:
    return 255 * np.repeat(rectangles(boxes.astype(int), SIZE)[..., None], 3, axis=2)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def test_blur_softens_half_of_the_pictures_and_keeps_their_mean():
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    blurred = [
        augmentation(blur=2.0)(picture, box_corners(BOXES), np.random.default_rng(seed))[0]
        for seed in range(40)
    ]

    changed = [other for other in blurred if (other != picture).any()]
    assert 10 < len(changed) < 30
    for other in changed:
        assert abs(other.mean() - picture.mean()) < 1
        assert np.abs(np.diff(np.float64(other), axis=0)).sum() < (
            np.abs(np.diff(np.float64(picture), axis=0)).sum()
        )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("boxes", [BOXES, np.array([[30, 20, 60, 45], [65, 70, 100, 110.0]])])
@pytest.mark.parametrize("move", MOVES)
def test_boxes_move_exactly_as_the_pixels_do(move, boxes, seed):
    picture, corners = augmentation(border="black", **MOVES[move])(
        white_boxes(boxes), box_corners(boxes), np.random.default_rng(seed)
    )

    assert overlap(lesion_mask(corners, SIZE), picture[..., 0] > 127) > 0.97


@pytest.mark.parametrize("move", MOVES)
def test_each_change_does_change_something_and_differs_from_draw_to_draw(move):
    change = augmentation(border="black", **MOVES[move])
    before = white_boxes(BOXES)
    seen = {
        change(before, box_corners(BOXES), np.random.default_rng(seed))[0].tobytes()
        for seed in range(12)
    }

    assert seen != {before.tobytes()}
    assert len(seen) >= 2


def drawn_matrices(size: int = SIZE, **options) -> np.ndarray:
    change, random = augmentation(**options), np.random.default_rng(0)
    return np.array([change.draw_matrix(size, random) for _ in range(400)])


def test_pictures_turn_either_way_by_as_many_degrees_as_said():
    matrices = drawn_matrices(rotation=30.0)

    degrees = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert -30 <= degrees.min() < -29
    assert 29 < degrees.max() <= 30
    middle = [SIZE / 2, SIZE / 2, 1]
    np.testing.assert_allclose(matrices @ middle, np.tile(middle, (400, 1)))


@pytest.mark.parametrize("size", [128, 320])
def test_shifts_are_shares_of_the_side_whatever_it_is(size):
    matrices = drawn_matrices(size, shift=0.1)

    for axis in (0, 1):
        shares = matrices[:, axis, 2] / size
        assert -0.1 <= shares.min() < -0.095
        assert 0.095 < shares.max() <= 0.1


def test_zoom_magnifies_between_its_two_ends_and_small_as_often_as_large():
    matrices = drawn_matrices(zoom=(0.5, 2.0))

    zoom = np.sqrt(np.linalg.det(matrices))
    assert 0.5 <= zoom.min() < 0.52
    assert 1.9 < zoom.max() <= 2
    assert (zoom < 1).mean() == pytest.approx(0.5, abs=0.08)
    only_smaller = np.sqrt(np.linalg.det(drawn_matrices(zoom=(0.5, 0.8))))
    assert 0.5 <= only_smaller.min() < only_smaller.max() <= 0.8


def test_one_axis_is_stretched_against_the_other_and_the_area_stays():
    matrices = drawn_matrices(aspect=1.5)

    np.testing.assert_allclose(np.linalg.det(matrices), 1)
    ratio = matrices[:, 0, 0] / matrices[:, 1, 1]
    assert 1 / 1.5 <= ratio.min() < 0.68
    assert 1.48 < ratio.max() <= 1.5


def test_between_pixels_a_moved_picture_is_interpolated():
    ramp = np.empty((20, 20, 3), np.uint8)
    ramp[:] = np.arange(0, 200, 10)[None, :, None]
    half_a_pixel = np.array([[1, 0, 0.5], [0, 1, 0], [0, 0, 1]])

    moved = move_pixels(ramp, half_a_pixel, cv2.BORDER_REFLECT_101)

    np.testing.assert_array_equal(moved[:, 1:, 0], np.tile(np.arange(5, 195, 10), (20, 1)))


def test_whole_steps_move_pixels_without_blur():
    flips = augmentation(flip_horizontal=True, flip_vertical=True)
    picture = make_color(SIZE, SIZE)
    expected = [picture, picture[:, ::-1], picture[::-1], picture[::-1, ::-1]]
    seen = set()
    for seed in range(20):
        found, corners = flips(picture, box_corners(BOXES), np.random.default_rng(seed))
        [which] = [n for n, one in enumerate(expected) if np.array_equal(found, one)]
        seen.add(which)
        x0, y0 = corners[0].min(0)
        assert (x0, y0) == ((40, 58)[which % 2], (50, 38)[which // 2])
    assert seen == {0, 1, 2, 3}


def test_everything_off_changes_nothing():
    picture = make_color(SIZE, SIZE)
    corners = box_corners(BOXES)

    same, unmoved = augmentation()(picture, corners, np.random.default_rng(0))

    np.testing.assert_array_equal(same, picture)
    np.testing.assert_array_equal(unmoved, corners)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("color", COLORS)
def test_colors_change_without_moving_anything(color, seed):
    picture = make_color(SIZE, SIZE)

    changed, corners = augmentation(**COLORS[color])(
        picture, box_corners(BOXES), np.random.default_rng(seed)
    )

    np.testing.assert_array_equal(corners, box_corners(BOXES))
    assert changed.dtype == np.uint8
    assert changed.shape == picture.shape
    assert (changed != picture).any()
    inside = rectangles(BOXES.astype(int), SIZE).astype(bool)
    two_colors = np.where(inside[..., None], (200, 90, 60), (90, 70, 150)).astype(np.uint8)
    changed, _ = augmentation(**COLORS[color])(
        two_colors, box_corners(BOXES), np.random.default_rng(seed)
    )
    assert len(np.unique(changed[inside], axis=0)) == len(np.unique(changed[~inside], axis=0)) == 1


def test_brightness_and_contrast_are_those_drawn():
    picture = np.full((4, 4, 3), 128, np.uint8)
    levels = [
        augmentation(brightness=0.2)(picture, box_corners(BOXES), np.random.default_rng(n))[0][0, 0]
        for n in range(200)
    ]

    levels = np.array(levels)[:, 0].astype(int)
    assert 128 - 52 <= levels.min() < 128 - 40
    assert 128 + 40 < levels.max() <= 128 + 52


def recolored(color: tuple[int, int, int], **options) -> np.ndarray:
    """What becomes of a color in 300 draws."""
    picture = np.full((1, 1, 3), color, np.uint8)
    change = augmentation(**options)
    return np.array(
        [
            change(picture, box_corners(BOXES[:0]), np.random.default_rng(n))[0][0, 0]
            for n in range(300)
        ],
        float,
    )


def test_contrast_grows_and_shrinks_about_middle_gray_by_the_same_factors():
    above, below = (recolored((gray,) * 3, contrast=0.5)[:, 0] - 127.5 for gray in (168, 87))

    np.testing.assert_allclose(above, -below, atol=1)
    factors = above / 40.5
    assert 1 / 1.5 - 0.02 <= factors.min() < 0.7
    assert 1.45 < factors.max() <= 1.52
    assert (factors < 1).mean() == pytest.approx(0.5, abs=0.1)


def test_gamma_bends_the_gray_curve_and_leaves_its_ends():
    gray = recolored((128,) * 3, gamma=1.0)[:, 0]

    exponents = np.log(gray / 255) / np.log(128 / 255)
    assert 0.49 <= exponents.min() < 0.53
    assert 1.9 < exponents.max() <= 2.02
    for end in (0, 255):
        assert (recolored((end,) * 3, gamma=1.0) == end).all()


@pytest.mark.parametrize("start", [0, 90, 200])
def test_hue_turns_either_way_by_as_many_degrees_as_said(start):
    color = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(start / 360, 0.8, 0.9))

    found = [colorsys.rgb_to_hsv(*one / 255)[0] * 360 for one in recolored(color, hue=30.0)]

    turned = (np.array(found) - start + 180) % 360 - 180
    assert -32 <= turned.min() < -26
    assert 26 < turned.max() <= 32


def test_saturation_changes_and_the_brightest_channel_stays():
    found = recolored((180, 120, 90), saturation=0.5)

    np.testing.assert_allclose(found.max(1), 180, atol=1)
    factors = (1 - found.min(1) / found.max(1)) / 0.5
    assert 1 / 1.5 - 0.02 <= factors.min() < 0.7
    assert 1.45 < factors.max() <= 1.52


@pytest.mark.parametrize("channel", range(3))
def test_hue_turns_and_gray_stays_gray(channel):
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[..., channel] = 200
    turned = [
        augmentation(hue=30)(picture, box_corners(BOXES[:0]), np.random.default_rng(n))[0][0, 0]
        for n in range(50)
    ]
    assert all(color.argmax() == channel for color in turned)  # primaries are 120 degrees apart
    assert max(np.delete(color, channel).max() for color in turned) > 60
    gray = np.full((2, 2, 3), 90, np.uint8)
    for n in range(10):
        found, _ = augmentation(hue=30, saturation=0.5)(
            gray, box_corners(BOXES[:0]), np.random.default_rng(n)
        )
        np.testing.assert_array_equal(found, gray)


def test_the_same_draw_gives_the_same_change():
    change = augmentation(**MOVES["all"], **COLORS["hue"], brightness=0.2)
    picture = make_color(SIZE, SIZE)

    def changed(seed):
        return change(picture, box_corners(BOXES), np.random.default_rng([seed, 1]))

    np.testing.assert_array_equal(changed(3)[0], changed(3)[0])
    np.testing.assert_array_equal(changed(3)[1], changed(3)[1])
    assert (changed(3)[0] != changed(4)[0]).any()


def test_beyond_the_border_the_picture_is_mirrored_or_black():
    picture = np.full((SIZE, SIZE, 3), 200, np.uint8)
    for border, darkest in (("reflect", 200), ("black", 0)):
        shrunk, _ = augmentation(zoom=(0.5, 0.5), border=border)(
            picture, box_corners(BOXES), np.random.default_rng(0)
        )
        assert shrunk.min() == darkest


def test_beyond_the_border_it_can_be_either_half_of_the_time():
    picture = np.full((SIZE, SIZE, 3), 200, np.uint8)
    change, random = augmentation(zoom=(0.5, 0.5), border="either"), np.random.default_rng(0)
    darkest = [change(picture, box_corners(BOXES), random)[0].min() for _ in range(200)]

    assert set(darkest) == {0, 200}
    assert 70 < darkest.count(0) < 130


def test_a_mask_covers_the_pixels_whose_middles_are_inside():
    mask = lesion_mask(box_corners(np.array([[2.6, 3.4, 6.4, 8.6]])), 12)

    np.testing.assert_array_equal(mask, rectangles([(3, 3, 6, 9)], 12))


def test_a_box_smaller_than_a_pixel_is_the_pixel_it_lies_in():
    between = np.array([[4.6, 7.6, 5.4, 8.3], [-3.4, 2.0, -3.2, 2.1]])  # and one beyond the border

    np.testing.assert_array_equal(
        lesion_mask(box_corners(between), 12), rectangles([(5, 7, 6, 8)], 12)
    )


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 135, 210])
def test_the_area_of_a_turned_or_mirrored_box_is_that_of_the_box(degrees, mirrored):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = box_corners(np.array([[-20.0, -30, 20, 30]])) @ turn.T + (
        64.3,
        63.8,
    )  # no middle on an edge
    if mirrored:
        corners[..., 0] = SIZE - corners[..., 0]

    mask = lesion_mask(corners, SIZE)

    assert int(mask.sum()) == pytest.approx(40 * 60, rel=0.01)
    by_opencv = np.zeros((SIZE * 8, SIZE * 8), np.uint8)  # filled polygon, eight times finer
    cv2.fillPoly(by_opencv, [np.round(corners[0] * 8 - 0.5).astype(np.int32)], 1)
    middles = by_opencv.reshape(SIZE, 8, SIZE, 8).mean((1, 3)) > 0.5
    assert overlap(mask, middles.astype(np.uint8)) > 0.98


def test_of_overlapping_boxes_the_mask_is_the_union():
    boxes = np.array([[1, 1, 6, 6], [4, 4, 9, 9.0]])

    np.testing.assert_array_equal(
        lesion_mask(box_corners(boxes), 12), rectangles(boxes.astype(int), 12)
    )
    assert not lesion_mask(box_corners(boxes[:0]), 12).any()


SAMPLES = sample_list(
    sample("a0", 0),
    sample("b0", 1, boxes=[(2, 2, 6, 6), (8, 9, 12, 12)]),
    sample("c0", 2, boxes=[(0, 0, 16, 16)]),
    *(sample(f"a{n}", 0) for n in range(1, 12)),
    *(sample(f"c{n}", 2) for n in range(1, 6)),
)
PIXELS = np.random.default_rng(0).integers(0, 256, (len(SAMPLES.samples), 16, 16, 3), np.uint8)


def dataset(*, attend=("all",), seed=0, samples=SAMPLES, **options) -> PictureDataset:
    care = AttentionSettings(
        attend=attend,
        **{key: options.pop(key) for key in ("box_scale", "outside_slope") if key in options},
    )
    return PictureDataset(
        samples,
        cache_of(samples, PIXELS[: len(samples.samples)]),
        augmentation=augmentation(**options) if options else None,
        attention=care if attend else None,
        seed=seed,
    )


def test_a_batch_carries_masks_of_its_boxed_pictures_alone():
    made = dataset(outside_slope=0.5)

    batch = made.collate([made[n] for n in (0, 1, 3, 2)])

    assert batch.labels.tolist() == batch.partners.tolist() == [0, 1, 0, 2]
    assert batch.boxed.tolist() == [1, 3]
    np.testing.assert_array_equal(batch.images, PIXELS[[0, 1, 3, 2]])
    np.testing.assert_array_equal(batch.inside[0], rectangles([(2, 2, 6, 6), (8, 9, 12, 12)]))
    assert (batch.inside[1] == 1).all()
    assert (batch.outside[1] == 0).all()
    assert batch.outside[0, 0, 0] == 1 + 0.5 * 4
    assert batch.shares.tolist() == [1, 1, 1, 1]


def test_without_boxes_the_masks_of_a_batch_are_empty():
    made = dataset(attend=())

    batch = made.collate([made[n] for n in (0, 1, 2)])

    assert batch.boxed.tolist() == []
    assert batch.inside.shape == batch.outside.shape == (0, 16, 16)


@pytest.mark.parametrize(
    ("attend", "attended"),
    [
        (("all",), [0, 1, 2]),
        (("minority",), [1]),  # 1 of 12 is less than a tenth; 6 of 12 is not
        (("c",), [2]),
        (("b", "c"), [1, 2]),
        ((), []),
    ],
)
def test_boxes_are_used_of_the_labels_asked_for(attend, attended):
    assert sorted(dataset(attend=attend).attended) == attended
    assert (dataset(attend=attend)[1].mask is not None) == (1 in attended)
    assert (dataset(attend=attend)[2].mask is not None) == (2 in attended)


def test_an_unknown_label_in_attend_is_named():
    with pytest.raises(ConfigError, match="attend: no label 'opacity'; there are a, b, c"):
        dataset(attend=("opacity",))


def test_minority_without_a_minority_is_refused():
    even = sample_list(sample("a0", 0), sample("b0", 1))

    with pytest.raises(ConfigError, match=r"no class has less than 0\.1 times"):
        dataset(attend=("minority",), samples=even)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_boxes_are_scaled_about_their_centers(scale):
    one = sample_list(sample("a0", 0, boxes=[(4, 4, 12, 12)]))

    mask = dataset(samples=one, box_scale=scale)[0].mask

    half = int(4 * scale)
    np.testing.assert_array_equal(mask, rectangles([(8 - half, 8 - half, 8 + half, 8 + half)]))


def test_a_picture_whose_box_moved_out_of_it_is_not_boxed():
    corner = sample_list(sample("a0", 0, boxes=[(0, 0, 2, 2)]))
    made = dataset(samples=corner, shift=0.4)
    items = [made[Draw(0, (n,))] for n in range(40)]

    gone = [item for item in items if item.mask is None]
    assert 0 < len(gone) < 40
    assert all(item.mask.any() for item in items if item.mask is not None)
    batch = made.collate(items)
    assert len(batch.boxed) == len(batch.inside) == 40 - len(gone)
    assert (batch.inside.sum((1, 2)) > 0).all()


def test_a_turn_is_changed_by_its_nonce_and_the_seed_alone():
    options = {"rotation": 90.0, "brightness": 0.3}

    def picture(nonce, seed=0):
        return dataset(seed=seed, **options)[Draw(1, nonce)].picture.tobytes()

    assert picture((1, 7)) == picture((1, 7))
    assert len({picture((1, 7)), picture((1, 8)), picture((2, 7)), picture((1, 7), seed=1)}) == 4


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
def test_a_mixture_is_explained_and_attended_by_its_larger_share(share):
    made = dataset()

    item = made[Draw(1, (0,), partner=2, share=share)]

    expected = share * PIXELS[1].astype(float) + (1 - share) * PIXELS[2]
    np.testing.assert_allclose(item.picture, expected, atol=0.51)
    first, second = (1, 2) if share >= 0.5 else (2, 1)
    assert (item.label, item.partner) == (first, second)
    assert item.share == pytest.approx(max(share, 1 - share))
    np.testing.assert_array_equal(item.mask, made[first].mask)


def test_the_loss_of_a_mixture_does_not_care_which_picture_came_first():
    made = dataset()

    one = made.collate([made[Draw(1, (0,), partner=2, share=0.3)]])
    other = made.collate([made[Draw(2, (0,), partner=1, share=0.7)]])

    for found, expected in zip(one, other, strict=True):
        torch.testing.assert_close(found.float(), expected.float(), rtol=0, atol=1)  # rounding
    assert one.labels.tolist() == other.labels.tolist() == [2]
    assert one.shares.item() == pytest.approx(other.shares.item())
    assert torch.equal(one.inside, other.inside)
