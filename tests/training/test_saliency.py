"""Saliency: each method against its definition, worked out another way."""

import cv2
import numpy as np
import pytest

from training.boxes.generate import Generator
from training.boxes.saliency import (
    SALIENCY,
    SPECTRAL_SIGMA,
    SURROUNDS,
    fine_grained,
    frequency_tuned,
    spectral_residual,
)

METHODS = sorted(SALIENCY)
SHAPES = [(225, 300, 3), (40, 31), (3, 3), (1, 1), (1, 200, 3), (700, 90)]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def planted(height: int = 240, width: int = 320) -> np.ndarray:
    """A dark disc of 80 pixels at (200, 120) on faintly noisy skin."""
    picture = np.full((height, width, 3), (205, 160, 140), np.float32)
    cv2.circle(picture, (200, 120), 40, (110, 70, 60), -1)
    picture = cv2.GaussianBlur(picture, (0, 0), 2)
    return (picture + np.random.default_rng(0).normal(0, 2, picture.shape)).astype(np.uint8)


def stretched(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_saliency_has_the_pictures_shape_and_runs_from_0_to_1(method, shape):
    saliency = SALIENCY[method](noise(*shape))

    assert saliency.dtype == np.float32
    assert saliency.shape == shape[:2]
    assert np.isfinite(saliency).all()
    assert saliency.min() >= 0
    assert saliency.max() <= 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_picture_of_one_color_has_no_saliency(method, shape):
    picture = np.full(shape, 150, np.uint8)
    picture[..., -1:] = 150

    assert not SALIENCY[method](picture).any()


@pytest.mark.parametrize("method", METHODS)
def test_gray_and_color_of_the_same_shades_give_the_same_saliency(method):
    gray = planted()[..., 0]

    np.testing.assert_allclose(
        SALIENCY[method](gray), SALIENCY[method](np.repeat(gray[..., None], 3, 2)), atol=1e-6
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_same_picture_gives_the_same_saliency(method):
    np.testing.assert_array_equal(SALIENCY[method](planted()), SALIENCY[method](planted()))


@pytest.mark.parametrize("method", ["border", "fine-grained", "frequency-tuned"])
def test_a_planted_lesion_stands_out(method):
    saliency = SALIENCY[method](planted())

    inside = np.zeros(saliency.shape, bool)
    inside[100:140, 180:220] = True
    outside = np.ones(saliency.shape, bool)
    outside[70:170, 150:250] = False
    assert saliency[inside].mean() > 2 * saliency[outside].mean()


def test_what_is_alone_of_its_kind_stands_out_in_the_spectral_residual():
    picture = np.full((64, 64), 90, np.uint8)
    picture[4::8, 4::8] = 200  # a grid of dots, one of them out of line
    picture[36, 36] = 90
    picture[38:41, 38:41] = 230

    y, x = np.unravel_index(spectral_residual(picture).argmax(), (64, 64))

    assert np.hypot(y - 38, x - 38) < 6


@pytest.mark.parametrize("method", METHODS)
def test_a_large_picture_has_the_saliency_of_the_small_one(method):
    picture = planted()
    large = cv2.resize(picture, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)

    saliency = SALIENCY[method](large)

    expected = cv2.resize(SALIENCY[method](picture), (1280, 960), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(saliency, expected, atol=1e-5)


def test_the_spectral_residual_is_that_of_a_plain_fourier_transform():
    picture = noise(24, 32)
    rows, columns = (np.exp(-2j * np.pi * np.outer(range(n), range(n)) / n) for n in (24, 32))
    spectrum = rows @ picture.astype(np.float64) @ columns
    log_amplitude = np.log(np.abs(spectrum))
    padded = np.pad(log_amplitude, 1, mode="edge")
    mean = np.zeros_like(log_amplitude)
    for dy in range(3):
        for dx in range(3):
            mean += padded[dy : dy + 24, dx : dx + 32] / 9
    residual = np.exp(log_amplitude - mean) * spectrum / np.abs(spectrum)
    back = np.abs(rows.conj() @ residual @ columns.conj() / (24 * 32)) ** 2
    taps = np.exp(-(np.arange(-10, 11) ** 2) / (2 * SPECTRAL_SIGMA**2))
    padded = np.pad(back, 10, mode="reflect")
    smooth = np.zeros_like(back)
    for dy in range(21):
        for dx in range(21):
            smooth += taps[dy] * taps[dx] * padded[dy : dy + 24, dx : dx + 32]

    np.testing.assert_allclose(spectral_residual(picture), stretched(smooth), atol=1e-5)


def test_fine_grained_saliency_is_that_of_windows_summed_by_hand():
    picture = noise(21, 34)
    values = picture.astype(np.float64)
    expected = np.zeros_like(values)
    for y, x in np.ndindex(values.shape):
        for reach in SURROUNDS:
            window = values[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            surround = (window.sum() - values[y, x]) / (window.size - 1)
            expected[y, x] += max(values[y, x] - surround, 0) + max(surround - values[y, x], 0)

    np.testing.assert_allclose(fine_grained(picture), stretched(expected), atol=1e-6)


def lab_of(rgb: np.ndarray) -> np.ndarray:
    """sRGB to CIE Lab under D65, by the standards' formulas, float64."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [
            [0.412453, 0.35758, 0.180423],
            [0.212671, 0.71516, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ]
    )
    x, y, z = np.moveaxis(linear @ matrix.T / matrix.sum(1), -1, 0)
    fx, fy, fz = (
        np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116) for t in (x, y, z)
    )
    return np.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], -1)


def test_frequency_tuned_saliency_is_the_distance_of_blurred_from_mean_color():
    picture = noise(18, 25, 3)
    lab = lab_of(picture)
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    padded = np.pad(lab, ((2, 2), (2, 2), (0, 0)), mode="edge")
    expected = np.zeros(picture.shape[:2])
    for y, x in np.ndindex(expected.shape):
        blurred = (kernel[..., None] * padded[y : y + 5, x : x + 5]).sum((0, 1))
        expected[y, x] = np.linalg.norm(lab.mean((0, 1)) - blurred)

    np.testing.assert_allclose(frequency_tuned(picture), stretched(expected), atol=5e-3)


@pytest.mark.parametrize("method", ["border", "frequency-tuned"])
def test_a_huge_picture_is_boxed_where_the_small_one_is(method):
    picture = planted()
    huge = cv2.resize(picture, None, fx=10, fy=10, interpolation=cv2.INTER_NEAREST)

    [small_box], [huge_box] = Generator(method=method)(picture), Generator(method=method)(huge)

    np.testing.assert_allclose(huge_box.box / 10, small_box.box, atol=1.5)
    assert small_box.confidence > 0
