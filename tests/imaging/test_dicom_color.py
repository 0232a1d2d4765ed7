"""Color DICOM → RGB."""

import tracemalloc

import numpy as np
import pytest
from pydicom.pixels import convert_color_space
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEG2000Lossless

from imaging.errors import ImagingError, UnreadableImage
from imaging.reading import read_image
from tests.factories import as_bytes, make_color, make_dicom
from tests.imaging.oracle import displayed


def assert_within_one(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == np.uint8
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(float) - theirs).max() <= 1


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("size", [(3, 3), (16, 16), (15, 22)])
def test_rgb_comes_in_triples_or_in_planes(planar, size):
    picture = make_color(*size)

    dataset = make_dicom(picture, planar=planar)

    np.testing.assert_array_equal(read_image(as_bytes(dataset)).pixels, picture)


@pytest.mark.parametrize("planar", [0, 1])
def test_ybr_full_becomes_rgb(planar):
    picture = make_color()
    ybr = convert_color_space(picture.copy(), "RGB", "YBR_FULL")

    dataset = make_dicom(ybr, planar=planar, photometric="YBR_FULL")

    assert_within_one(read_image(as_bytes(dataset)).pixels, displayed(dataset))


def test_subsampled_chroma_is_spread_over_its_two_pixels():
    y = np.arange(8, dtype=np.uint8) * 30
    packed = np.array([y[0], y[1], 90, 160, y[2], y[3], 128, 128, *y[4:6], 70, 100, *y[6:], 0, 255])
    dataset = make_dicom(
        np.zeros((2, 4, 3), np.uint8),
        photometric="YBR_FULL_422",
        PixelData=packed.astype(np.uint8).tobytes(),
    )

    assert_within_one(read_image(as_bytes(dataset)).pixels, displayed(dataset))


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("frames", [1, 3])
def test_chroma_that_is_all_there_is_not_taken_for_subsampled(planar, frames):
    pictures = np.stack([make_color(9, 13, seed=seed) for seed in range(frames)])
    ybr = np.stack([convert_color_space(one.copy(), "RGB", "YBR_FULL") for one in pictures])
    wrong, right = (
        make_dicom(ybr, frames=frames, planar=planar, photometric=photometric)
        for photometric in ("YBR_FULL_422", "YBR_FULL")
    )

    pixels = read_image(as_bytes(wrong), frame=frames).pixels

    np.testing.assert_array_equal(pixels, read_image(as_bytes(right), frame=frames).pixels)


@pytest.mark.parametrize("told", ["RGB", "YBR_RCT", "YBR_FULL", "YBR_FULL_422"])
def test_jpeg_2000_of_transformed_colors_is_rgb_whatever_its_header_says(told):
    picture = make_color()
    dataset = make_dicom(picture)
    dataset.PhotometricInterpretation = "YBR_RCT"
    dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    dataset.PhotometricInterpretation = told

    np.testing.assert_array_equal(read_image(as_bytes(dataset)).pixels, picture)


@pytest.mark.parametrize("told", ["RGB", "YBR_FULL"])
def test_jpeg_2000_of_colors_as_they_are_is_what_its_header_says(told):
    dataset = make_dicom(make_color(), photometric=told)
    expected = read_image(as_bytes(dataset)).pixels
    dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    dataset.PhotometricInterpretation = told

    np.testing.assert_array_equal(read_image(as_bytes(dataset)).pixels, expected)


def test_ybr_partial_uses_the_narrow_range():
    # PS3.3 C.7.6.3.1.2: black is 16, white is 235
    packed = np.array([16, 235, 128, 128, 126, 126, 128, 128], np.uint8).tobytes()
    dataset = make_dicom(
        np.zeros((1, 4, 3), np.uint8), photometric="YBR_PARTIAL_422", PixelData=packed
    )

    gray = read_image(as_bytes(dataset)).pixels[0, :, 0]

    np.testing.assert_allclose(gray, [0, 255, 128, 128], atol=1)


def test_ybr_partial_undoes_the_equations_of_the_standard():
    # PS3.3 C.7.6.3.1.2, [Y, Cb, Cr] from [R, G, B]
    forward = np.array(
        [[0.2568, 0.5041, 0.0979], [-0.1482, -0.2910, 0.4392], [0.4392, -0.3678, -0.0714]]
    )
    colors = np.array([[200, 40, 30], [30, 180, 60], [20, 60, 220], [240, 230, 20], [90, 90, 90]])
    y, cb, cr = np.rint(forward @ colors.T + [[16], [128], [128]])
    packed = np.stack([y, y, cb, cr], axis=1).astype(np.uint8)  # two pixels of each color
    dataset = make_dicom(
        np.zeros((5, 2, 3), np.uint8), photometric="YBR_PARTIAL_422", PixelData=packed.tobytes()
    )

    pixels = read_image(as_bytes(dataset)).pixels.astype(int)

    assert np.abs(pixels - colors[:, None]).max() <= 2


@pytest.mark.parametrize(("kind", "bits"), [(np.uint16, 16), (np.uint16, 12), (np.uint32, 32)])
def test_deep_color_is_scaled_by_its_bits(kind, bits):
    picture = make_color()
    deep = np.rint(picture.astype(np.float64) * ((2**bits - 1) / 255)).astype(kind)

    assert_within_one(read_image(as_bytes(make_dicom(deep, bits_stored=bits))).pixels, picture)


def palette(bits: int, count: int, first: int = 0) -> dict[str, object]:
    """Attributes of a palette of random colors."""
    rng = np.random.default_rng(3)
    attributes: dict[str, object] = {}
    for name in ("Red", "Green", "Blue"):
        entries = rng.integers(0, 2**bits, count).astype(f"<u{bits // 8}")
        attributes[f"{name}PaletteColorLookupTableDescriptor"] = [count % 65536, first, bits]
        attributes[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    return attributes


@pytest.mark.parametrize(
    ("bits", "kind", "count", "first"),
    [(8, "u1", 256, 0), (8, "u1", 100, 50), (16, "u1", 256, 0), (16, "u2", 4000, 9)],
)
def test_a_palette_is_looked_up(bits, kind, count, first):
    codes = (np.arange(35 * 30).reshape(35, 30) * 7 % (200 if kind == "u1" else 5000)).astype(kind)
    dataset = make_dicom(codes, photometric="PALETTE COLOR", **palette(bits, count, first))

    assert_within_one(read_image(as_bytes(dataset)).pixels, displayed(dataset))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_in_big_endian_has_the_same_colors(bits):
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16)
    little = make_dicom(codes, photometric="PALETTE COLOR", **palette(bits, 256))
    big = make_dicom(codes, syntax=ExplicitVRBigEndian, photometric="PALETTE COLOR")
    for keyword, found in palette(bits, 256).items():
        swapped = np.frombuffer(found, "<u2").byteswap().tobytes() if "Data" in keyword else found
        setattr(big, keyword, swapped)

    np.testing.assert_array_equal(
        read_image(as_bytes(big)).pixels, read_image(as_bytes(little)).pixels
    )


def segmented(bits: int, order: str, **colors: list[int]) -> dict[str, object]:
    """A palette of 256 entries in segments, its words in one order (PS3.3 C.7.9.2)."""
    attributes: dict[str, object] = {}
    for name, words in colors.items():
        attributes[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        packed = np.array(words, f"<u{bits // 8}").tobytes()
        words_of_16 = np.frombuffer(packed + bytes(len(packed) % 2), "<u2")
        keyword = f"Segmented{name}PaletteColorLookupTableData"
        attributes[keyword] = words_of_16.astype(f"{order}u2").tobytes()
    return attributes


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_in_segments_is_put_together(bits, syntax):
    top = (1 << bits) - 1
    at = [3 * bits // 8, 0] if bits == 16 else [3, 0, 0, 0]  # of the line, in bytes
    red = [0, 1, 0, 1, 100, top, 1, 100, 0, 1, 55, top // 5]  # an entry and three lines
    green = [0, 1, 0, 1, 100, top, 0, 1, 0, 2, 1, *at, 0, 54, *range(1, 55)]
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16)
    dataset = make_dicom(
        codes,
        syntax=syntax,
        photometric="PALETTE COLOR",
        **segmented(bits, order, Red=red, Green=green, Blue=[0, 1, 9, 1, 255, 9]),
    )

    found = read_image(as_bytes(dataset)).pixels.reshape(256, 3) * (top / 255)

    rise = np.linspace(0, top, 101)
    expected = [
        np.concatenate([rise, rise[-2::-1], np.linspace(0, top // 5, 56)[1:]]),
        np.concatenate([rise, rise, np.arange(1, 55)]),
        np.full(256, 9),
    ]
    assert np.abs(found - np.stack(expected, axis=-1)).max() <= top / 255


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([1, 4, 9], id="a-line-from-nowhere"),
        pytest.param([0, 1, 0, 3, 1, 1], id="no-such-kind"),
        pytest.param([0, 1, 0, 2, 9, 6, 0], id="segments-within-themselves"),
        pytest.param([0, 1, 0, *[0, 0] * 600], id="segments-of-nothing"),
    ],
)
def test_segments_that_do_not_add_up_are_refused(words):
    colors = segmented(16, "<", Red=words, Green=words, Blue=words)
    dataset = make_dicom(np.zeros((4, 4), np.uint8), photometric="PALETTE COLOR", **colors)

    with pytest.raises(UnreadableImage, match="segments do not add up"):
        read_image(as_bytes(dataset))


def test_a_palette_in_segments_makes_no_more_entries_than_it_has():
    bomb = [0, 1, 0, *[1, 65535, 65535, 1, 65535, 0] * 200]
    colors = segmented(16, "<", Red=bomb, Green=bomb, Blue=bomb)
    data = as_bytes(make_dicom(np.zeros((4, 4), np.uint8), photometric="PALETTE COLOR", **colors))

    tracemalloc.start()
    read_image(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 20_000_000


@pytest.mark.parametrize("photometric", ["HSV", "ARGB", "CMYK", "Doe^Jane", ""])
def test_other_color_models_are_refused(photometric):
    dataset = make_dicom(make_color(), PhotometricInterpretation=photometric)

    with pytest.raises(ImagingError) as refusal:
        read_image(as_bytes(dataset))

    assert "Doe" not in refusal.value.problem.replace("DOE", "Doe")
