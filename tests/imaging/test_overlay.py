"""Heatmap over picture."""

import io
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

from imaging.image import MedicalImage
from imaging.overlay import COLORMAPS, LEVELS, encode, overlay, shrink, tint
from imaging.reading import read_image
from tests.factories import make_color, make_film

SIZES = [(64, 64), (65, 300), (300, 65), (224, 224), (1024, 853), (1, 1), (2, 900)]
TURBO = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]


def spot(height: int, width: int) -> np.ndarray:
    """Heat around one place in the upper half, zero elsewhere."""
    y, x = np.mgrid[0:height, 0:width]
    distance = ((x - 0.6 * width) / (0.2 * width)) ** 2 + ((y - 0.3 * height) / (0.2 * height)) ** 2
    heat = np.clip(1 - distance, 0, None).astype(np.float32)
    return heat / max(heat.max(), 1e-6)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("peak", [0, 3.2])
def test_the_overlay_has_the_pictures_own_proportions(height, width, peak):
    film = make_film(height, width, bits=8)

    result = overlay(film, spot(height, width), peak=peak, label="pneumonia", notes=["a note"])

    assert result.shape == (height, width, 3)
    assert result.dtype == np.uint8


@pytest.mark.parametrize("picture", [make_film(400, 500, bits=8), make_color(400, 500)])
def test_without_heat_the_picture_is_untouched(picture):
    heat = spot(400, 500)
    rgb = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)

    result = overlay(picture, heat, peak=1.0, label="pneumonia")

    upper = slice(0, 300)  # the legend covers at most a quarter
    cold = heat[upper] == 0
    np.testing.assert_array_equal(result[upper][cold], rgb[upper][cold])
    assert (result[upper][heat[upper] > 0.5] != rgb[upper][heat[upper] > 0.5]).any(axis=1).all()


def test_opacity_is_the_share_of_color_at_the_peak():
    black = np.zeros((400, 400), np.uint8)
    heat = spot(400, 400)
    hottest = np.unravel_index(heat.argmax(), heat.shape)

    faint = overlay(black, heat, peak=1.0, label="x", opacity=0.25, colormap="jet")[hottest]
    full = overlay(black, heat, peak=1.0, label="x", opacity=1.0, colormap="jet")[hottest]

    np.testing.assert_allclose(faint, full * 0.25, atol=1)
    usual = overlay(black, heat, peak=1.0, label="x", colormap="jet")[hottest]
    np.testing.assert_allclose(usual, full * 0.4, atol=1)
    assert overlay(black, heat, peak=1.0, label="x", opacity=0.0)[:300].max() == 0


def test_no_evidence_is_no_heat_and_says_so():
    film = make_film(400, 400, bits=8)

    result = overlay(film, np.zeros((400, 400), np.float32), peak=0, label="pneumonia")

    np.testing.assert_array_equal(result[:300], np.repeat(film[:300, :, None], 3, axis=2))
    assert (result[300:] != film[300:, :, None]).any()


@pytest.mark.parametrize("background", [0, 128, 255])
def test_words_are_legible_on_any_background(background):
    flat = np.full((300, 400), background, np.uint8)

    result = overlay(flat, np.zeros(flat.shape, np.float32), peak=0, label="pneumonia")

    patch = result[270:, :150]
    assert patch.max() >= 250
    assert np.median(patch) <= 90


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_every_colormap_draws(colormap):
    film = make_film(100, 100, bits=8)

    result = overlay(film, spot(100, 100), peak=1.0, label="x", colormap=colormap)

    assert result.std() > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"heatmap": np.zeros((5, 5), np.float32)},
        {"heatmap": np.full((50, 60), np.nan, np.float32)},
        {"heatmap": np.full((50, 60), 1.5, np.float32)},
        {"peak": -1.0},
        {"peak": np.nan},
        {"opacity": 1.1},
        {"colormap": "rainbow of my own"},
        {"picture": np.zeros((50, 60), np.float32)},
    ],
)
def test_a_wrong_call_is_a_value_error(wrong):
    right = {"picture": make_film(50, 60, bits=8), "heatmap": spot(50, 60), "peak": 1.0}

    with pytest.raises(ValueError, match=r"heatmap|peak|opacity|colormap|picture"):
        overlay(**(right | wrong), label="x")


@pytest.mark.parametrize(("height", "width"), [(3000, 2500), (999, 1501), (50, 20), (1, 5000)])
def test_shrinking_keeps_proportions_and_never_enlarges(height, width):
    small = shrink(MedicalImage.of(np.full((height, width), 77, np.uint8)), 256)

    assert max(small.shape) == min(256, max(height, width))
    assert small.min() == small.max() == 77
    if max(height, width) <= 256:
        assert small.shape == (height, width)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(401, 299, (100, 75)), (299, 401, (75, 100)), (3001, 2, (100, 1)), (1001, 333, (100, 33))],
)
def test_shrunk_sides_are_the_nearest_to_their_proportions(height, width, expected):
    assert shrink(MedicalImage.of(np.zeros((height, width), np.uint8)), 100).shape == expected


def overlaps(pixels: int, wanted: int) -> np.ndarray:
    """How much of each pixel lies in each wanted one, as shares of the latter, (wanted, pixels)."""
    step = pixels / wanted
    found = np.zeros((wanted, pixels))
    for n in range(wanted):
        for m in range(pixels):
            found[n, m] = max(0, min((n + 1) * step, m + 1) - max(n * step, m)) / step
    return found


def test_a_picture_much_smaller_is_the_mean_of_the_pixels_it_stands_for():
    noise = np.random.default_rng(0).integers(0, 256, (301, 401), np.uint8)

    small = shrink(MedicalImage.of(noise), 100)

    expected = overlaps(301, 75) @ noise @ overlaps(401, 100).T
    assert np.abs(small - expected).max() <= 1


def test_a_picture_a_little_smaller_is_interpolated_between_its_pixels():
    noise = np.random.default_rng(0).integers(0, 256, (151, 203), np.uint8)
    at = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in ((151, 112), (203, 150))]

    small = shrink(MedicalImage.of(noise), 150)

    expected = map_coordinates(noise.astype(float), np.meshgrid(*at, indexing="ij"), order=1)
    assert np.abs(small - expected).max() <= 1


@pytest.mark.parametrize("picture", [make_film(30, 40, bits=8), make_color(30, 40)])
def test_a_png_is_pixels_and_nothing_else(picture):
    data = encode(picture)

    np.testing.assert_array_equal(read_image(data).pixels, picture)
    for chunk in (b"tEXt", b"iTXt", b"zTXt", b"tIME", b"eXIf", b"pHYs"):
        assert chunk not in data


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (63, 65)])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_other_decoders_read_our_png_as_it_was(height, width, channels):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, *channels), np.uint8)

    decoded = Image.open(io.BytesIO(encode(picture)))

    decoded.verify()
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(encode(picture)))), picture)


def test_colors_blend_as_in_floats_within_two_levels():
    picture, heat = make_color(200, 300), spot(200, 300)
    colors = cv2.applyColorMap(np.rint(255 * heat).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    share = 0.6 * heat[..., None].astype(np.float64)

    result = tint(picture, heat, opacity=0.6)

    assert np.abs(result - (picture * (1 - share) + colors * share)).max() < 2
    np.testing.assert_array_equal(result[heat == 0], picture[heat == 0])


def test_a_jpeg_and_a_webp_are_small_and_close():
    picture = make_color(300, 400)
    for kind in ("jpeg", "webp"):
        data = encode(picture, kind)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert len(data) < len(encode(picture)) / 2
        assert np.abs(pixels.astype(int) - picture).mean() < 3


@pytest.mark.parametrize(("height", "width"), [(64, 64), (68, 256), (256, 68), (40, 500)])
def test_even_a_small_overlay_has_its_scale(height, width):
    black = np.zeros((height, width), np.uint8)

    result = overlay(black, spot(height, width), peak=3.2, label="x", opacity=0)

    ends = [(result == color).all(-1).any() for color in TURBO[[0, -1]]]
    assert ends == [True, True]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (20, 20), (12, 500), (500, 20)])
@pytest.mark.parametrize("style", ["heat", "contour"])
def test_where_the_scale_does_not_fit_there_is_no_heat(height, width, style):
    film = make_film(height, width, bits=8)

    result = overlay(film, spot(height, width), peak=3.2, label="x", style=style)

    np.testing.assert_array_equal(result, np.repeat(film[..., None], 3, axis=2))


def test_where_a_note_does_not_fit_there_is_no_heat():
    film = make_film(64, 64, bits=8)

    result = overlay(film, spot(64, 64), peak=3.2, label="x", notes=["below its operating point"])

    np.testing.assert_array_equal(result, np.repeat(film[..., None], 3, axis=2))


def test_contours_run_where_the_heat_passes_their_levels():
    heat = np.repeat(np.linspace(0, 1, 400, dtype=np.float32)[None], 400, axis=0)

    result = overlay(np.full((400, 400), 128, np.uint8), heat, peak=1.0, label="x", style="contour")

    changed = (result[100] != 128).any(axis=-1)
    for level in LEVELS:
        assert changed[round(level * 399)]
    between = [round(399 * share) for share in (0.12, 0.37, 0.62, 0.87)]
    assert not changed[between].any()


def words_on(monkeypatch, heat: np.ndarray, **options) -> list[str]:
    """What the legend says, from top to bottom."""
    said = []
    put_text = cv2.putText

    def listening(picture, words, at, *rest):
        said.append((at[1], at[0], words))
        return put_text(picture, words, at, *rest)

    monkeypatch.setattr(cv2, "putText", listening)
    overlay(np.full(heat.shape, 60, np.uint8), heat, label="pneumonia", **options)
    return [words for _, _, words in sorted(said)]


@pytest.mark.parametrize(
    ("peak", "told"), [(3.24, "3.2"), (0.0478, "0.048"), (12.6, "13"), (1.0, "1")]
)
def test_the_legend_tells_the_evidence_its_scale_and_all_notes(monkeypatch, peak, told):
    said = words_on(monkeypatch, spot(900, 900), peak=peak, notes=["below its operating point"])

    assert said == [
        "evidence for pneumonia",
        "below its operating point",
        "0",
        f"{told} logits",
        "model attention, not a segmentation",
    ]


def test_where_there_is_no_evidence_the_legend_says_so_below_the_notes(monkeypatch):
    nothing = np.zeros((900, 900), np.float32)

    said = words_on(monkeypatch, nothing, peak=0, notes=["unlike the training pictures"])

    assert said == [
        "unlike the training pictures",
        "no positive evidence for pneumonia",
        "model attention, not a segmentation",
    ]


@pytest.mark.parametrize("style", ["heat", "contour"])
def test_the_scale_runs_from_no_heat_at_its_left_to_the_peak_at_its_right(style):
    black = np.zeros((900, 900), np.uint8)

    result = overlay(black, np.zeros((900, 900), np.float32), peak=1, label="x", style=style)

    colored = np.ptp(result.astype(int), axis=2) > 20  # words are gray
    row = colored.sum(1).argmax()
    first, *_, last = np.flatnonzero(colored[row])
    bar = result[row, first : last + 1]
    if style == "heat":
        expected = TURBO[np.linspace(0, 255, len(bar)).astype(int)]
        assert np.abs(bar.astype(int) - expected).max() <= 12
    else:
        # black up to a quarter; then three steps, each of the color of the line it stands for
        steps = [round(share * len(bar)) for share in (1 / 6, 1 / 2, 5 / 6)]
        np.testing.assert_array_equal(bar[steps], TURBO[[64, 128, 191]])


def test_a_line_has_the_color_of_its_level():
    heat = np.repeat(np.linspace(0, 1, 900, dtype=np.float32)[None], 900, axis=0)

    result = overlay(np.zeros((900, 900), np.uint8), heat, peak=1, label="x", style="contour")

    for level in (0.25, 0.5, 0.75):
        line = result[100, np.flatnonzero(heat[0] >= level)[0]]
        np.testing.assert_allclose(line, TURBO[round(255 * level)], atol=2)


def test_the_page_draws_its_lines_where_the_service_does():
    page = Path(__file__).parents[2] / "service" / "web" / "heat.js"
    [levels] = re.findall(r"LEVELS = (\[.*?\])", page.read_text())

    assert json.loads(levels) == list(LEVELS)
