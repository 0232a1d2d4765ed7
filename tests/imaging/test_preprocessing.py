"""From picture to model input and back."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from imaging.image import Facts, MedicalImage
from imaging.preprocessing import Preprocessing
from tests.factories import bright_square, make_color, make_film

SIZES = [(100, 700), (701, 99), (224, 224), (37, 41), (1500, 1501), (2400, 2000)]
FITS = ["squash", "pad"]


def picture(pixels: np.ndarray) -> MedicalImage:
    height, width = pixels.shape[:2]
    return MedicalImage(pixels, Facts(kind="png", width=width, height=height))


def preprocessing(fit: str = "pad", size: int = 224, color: str = "rgb") -> Preprocessing:
    return Preprocessing(size=size, fit=fit, color=color)


@given(
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.sampled_from(FITS),
    st.integers(16, 512),
    st.data(),
)
def test_a_box_is_the_same_share_of_its_picture_on_the_square(width, height, fit, size, data):
    placement = preprocessing(fit, size).place(width, height)
    x = sorted(data.draw(st.tuples(st.floats(0, width), st.floats(0, width))))
    y = sorted(data.draw(st.tuples(st.floats(0, height), st.floats(0, height))))
    boxes = np.array([[x[0], y[0], x[1], y[1]]])

    there = placement.boxes_to_model(boxes)

    assert there.min() >= -1e-6
    assert there.max() <= size + 1e-6
    [[left, top, right, bottom]] = placement.boxes_to_model(np.array([[0, 0, width, height]]))
    share = (there - [left, top] * 2) / ([right - left, bottom - top] * 2)
    np.testing.assert_allclose(share, boxes / ([width, height] * 2), atol=1e-9)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_box_still_frames_its_square_after_preprocessing(fit, height, width):
    side = min(height, width) // 3
    top, left = height // 2, width // 5
    square = bright_square(height, width, top=top, left=left, side=side, dark=0, bright=255)

    pixels, placement = preprocessing(fit)(picture(square))

    [[x0, y0, x1, y1]] = placement.boxes_to_model(np.array([[left, top, left + side, top + side]]))
    ys, xs = np.nonzero(pixels[..., 0] > 127)
    assert abs(xs.min() - x0) <= 1
    assert abs(xs.max() + 1 - x1) <= 1
    assert abs(ys.min() - y0) <= 1
    assert abs(ys.max() + 1 - y1) <= 1


@pytest.mark.parametrize("cells", [7, 8, 14])
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_peak_on_the_map_lies_within_one_cell_on_the_picture(fit, height, width, cells):
    placement = preprocessing(fit).place(width, height)
    x, y = 0.7 * width, 0.3 * height
    [[model_x, model_y, _, _]] = placement.boxes_to_model(np.array([[x, y, x, y]]))
    coarse = np.zeros((cells, cells), np.float32)
    coarse[int(model_y / 224 * cells), int(model_x / 224 * cells)] = 1
    for scale in (1.0, 0.37):
        size = (max(1, round(height * scale)), max(1, round(width * scale)))

        heat = placement.map_to_picture(coarse, size)

        assert heat.shape == size
        found_y, found_x = np.unravel_index(heat.argmax(), size)
        cell_x = 224 / cells / placement.scale_x
        cell_y = 224 / cells / placement.scale_y
        assert abs((found_x + 0.5) / scale - x) <= cell_x
        assert abs((found_y + 0.5) / scale - y) <= cell_y


@pytest.mark.parametrize("fit", FITS)
def test_a_flat_map_stays_flat(fit):
    placement = preprocessing(fit).place(300, 500)

    np.testing.assert_allclose(placement.map_to_picture(np.full((7, 7), 0.3)), 0.3, atol=1e-6)


@pytest.mark.parametrize("size", [(224, 224), (301, 97), (5, 3)])
def test_stretching_a_map_is_bilinear_interpolation_between_cell_centers(size):
    cells = np.random.default_rng(0).random((7, 7))
    placement = preprocessing("squash").place(970, 3010)
    rows, columns = (((np.arange(n) + 0.5) * 7 / n - 0.5).clip(0, 6) for n in size)
    wanted = [[map_coordinates(cells, [[y], [x]], order=1)[0] for x in columns] for y in rows]

    np.testing.assert_allclose(placement.map_to_picture(cells, size), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("width", "height"), [(100, 300), (300, 100), (290, 300), (300, 290), (31, 300), (300, 300)]
)
@pytest.mark.parametrize("wanted", [1.0, 0.3])
def test_a_map_is_cut_out_of_the_padding_by_bilinear_interpolation_too(width, height, wanted):
    size, cells = 32, np.random.default_rng(0).random((8, 8))
    placement = preprocessing("pad", size).place(width, height)
    shape = round(height * wanted), round(width * wanted)
    at = []  # cells, of which pixels' middles lie on the square
    for count, side in zip(shape, (height, width), strict=True):
        inner = round(side * size / max(width, height))
        middles = (size - inner) // 2 + (np.arange(count) + 0.5) * inner / count
        at.append((middles * 8 / size - 0.5).clip(0, 7))
    expected = map_coordinates(cells, np.meshgrid(*at, indexing="ij"), order=1)

    found = placement.map_to_picture(cells, shape)

    # OpenCV looks up to a 32nd of a cell
    np.testing.assert_allclose(found, expected, atol=1 / 32)


@pytest.mark.parametrize("cells", [1, 7, 8, 14])
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("height", "width"), [*SIZES, (1, 500), (500, 2), (300, 290)])
def test_cells_over_the_picture_are_those_that_share_a_part_with_it(fit, height, width, cells):
    placement = preprocessing(fit).place(width, height)
    [box] = placement.boxes_to_model(np.array([[0, 0, width, height]]))

    rows, columns = placement.cells((cells, cells))

    for found, low, high in ((rows, box[1], box[3]), (columns, box[0], box[2])):
        over = [
            n
            for n in range(cells)
            if min(high, (n + 1) * 224 / cells) - max(low, n * 224 / cells) > 1e-6
        ]
        assert list(range(cells))[found] == over


@pytest.mark.parametrize("turned", [False, True])
def test_squash_fills_the_square_and_pad_keeps_proportions(turned):
    white = np.full((300, 100) if turned else (100, 300), 255, np.uint8)

    squashed, _ = preprocessing("squash")(picture(white))
    padded, placement = preprocessing("pad")(picture(white))

    assert squashed.min() == 255
    assert (placement.top, placement.left) == ((0, 74) if turned else (74, 0))
    upright = padded.swapaxes(0, 1) if turned else padded
    assert upright[:74].max() == upright[149:].max() == 0
    assert upright[74:149].min() == 255


def test_gray_is_the_luminance_of_the_colors():
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 100, 50]], np.uint8)

    square, _ = preprocessing("squash", 4, "gray")(picture(np.repeat(colors[None], 4, axis=0)))

    # ITU-R BT.601
    np.testing.assert_allclose(square[0, :, 0], colors @ [0.299, 0.587, 0.114], atol=0.51)


@pytest.mark.parametrize(("height", "width"), [(9, 13), (40, 13), (13, 40), (23, 31)])
def test_a_small_picture_is_enlarged_by_bilinear_interpolation(height, width):
    small = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    at = [((np.arange(64) + 0.5) * n / 64 - 0.5).clip(0, n - 1) for n in (height, width)]
    expected = map_coordinates(small.astype(float), np.meshgrid(*at, indexing="ij"), order=1)

    square, _ = preprocessing("squash", 64)(picture(small))

    assert np.abs(square[..., 0] - expected).max() <= 1


def test_model_input_is_always_uint8_rgb():
    for pixels in (make_film(bits=8), make_color()):
        for color in ("rgb", "gray"):
            result, _ = preprocessing(color=color, size=96)(picture(pixels))
            assert result.shape == (96, 96, 3)
            assert result.dtype == np.uint8
            if color == "gray" or pixels.ndim == 2:
                assert (np.ptp(result.astype(int), axis=2) == 0).all()


@pytest.mark.parametrize(("height", "width"), [(3000, 2500), (1955, 1841), (4000, 2048)])
def test_the_fast_way_to_shrink_differs_little_from_plain_averaging(height, width):
    film = cv2.GaussianBlur(make_film(height, width, bits=8), (0, 0), 2)

    fast, _ = preprocessing("squash")(picture(film))

    plain = cv2.resize(film, (224, 224), interpolation=cv2.INTER_AREA)
    assert np.abs(fast[..., 0].astype(int) - plain).max() <= 2


@pytest.mark.parametrize("shape", [(64, 48), (64, 48, 3)])
def test_a_picture_is_halved_as_often_as_asked_and_read_once(shape):
    image = MedicalImage.of(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    means = image.pixels.reshape(32, 2, 24, 2, -1).mean((1, 3)).reshape(32, 24, *shape[2:])

    half = image.halved(0.5)

    assert np.abs(half - means).max() <= 0.5
    assert image.halved(0.3) is half
    assert image.halved(0.51) is image.pixels
    assert image.halved(0.1).shape[:2] == (8, 6)
    assert image.halved(0.01).shape[:2] == (4, 3)  # three cannot be halved


def test_a_picture_of_odd_sides_is_not_halved():
    image = MedicalImage.of(np.zeros((9, 8), np.uint8))

    assert image.halved(0.1) is image.pixels
