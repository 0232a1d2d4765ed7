"""Grayscale DICOM → brightness, against pydicom's and highdicom's float pipelines."""

import tracemalloc
from dataclasses import astuple, replace

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from imaging.dicom_display import PIXELS_AT_ONCE
from imaging.errors import WindowNotFound
from imaging.image import Window
from imaging.reading import open_image, read_image
from tests.factories import as_bytes, group, lut_item, make_color, make_dicom, make_film
from tests.imaging.oracle import displayed


def assert_within_one(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == np.uint8
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1


def by_highdicom(dataset: Dataset) -> np.ndarray:
    """Brightness in [0, 255] as highdicom shows it."""
    image = highdicom.Image.from_dataset(dataset)
    frame = image.get_frame(1, apply_voi_transform=None, apply_presentation_lut=True)
    return frame.astype(np.float64) * 255


WINDOW = {"WindowCenter": 1800, "WindowWidth": 2300}
FUNCTIONS = ["LINEAR", "LINEAR_EXACT", "SIGMOID", None]


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_windows_of_every_shape_match_pydicom_and_highdicom(function, photometric):
    film = make_film()
    dataset = make_dicom(
        film, bits_stored=12, photometric=photometric, VOILUTFunction=function, **WINDOW
    )

    ours = read_image(as_bytes(dataset)).pixels

    assert_within_one(ours, displayed(dataset))
    if function == "LINEAR":
        assert_within_one(ours, by_highdicom(dataset))


@pytest.mark.parametrize("bits", [1, 2, 7, 8, 9, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("windowed", [False, True])
def test_every_depth_up_to_16_bits_signed_and_unsigned(bits, signed, windowed):
    film = make_film(bits=bits)
    if signed:
        film = (film.astype(np.int32) - 2 ** (bits - 1)).astype("int8" if bits <= 8 else "int16")
    attributes = {"WindowCenter": 2.0 ** (bits - 2), "WindowWidth": 2.0 ** (bits - 1)}
    dataset = make_dicom(film, bits_stored=bits, **(attributes if windowed else {}))

    assert_within_one(read_image(as_bytes(dataset)).pixels, displayed(dataset))


@pytest.mark.parametrize("bits", [20, 31, 32])
@pytest.mark.parametrize("windowed", [False, True])
def test_32_bits_work_without_a_table(bits, windowed):
    film = make_film(bits=bits)
    attributes = {"WindowCenter": 2.0 ** (bits - 2), "WindowWidth": 2.0 ** (bits - 1)}
    dataset = make_dicom(film, bits_stored=bits, **(attributes if windowed else {}))

    assert_within_one(read_image(as_bytes(dataset)).pixels, displayed(dataset))


def floating(film: np.ndarray, **attributes: object) -> Dataset:
    """Pixels as floating-point numbers; attributes are called as those of float32 are."""
    double = "Double" * (film.itemsize == 8)
    whole = dict.fromkeys(("PixelData", "BitsStored", "HighBit", "PixelRepresentation"))
    given = {"FloatPixelData": film.tobytes(), **attributes}
    return make_dicom(film, **whole, **{double + name: value for name, value in given.items()})


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floating_point_pixels_are_read_and_nan_is_no_brightness(kind):
    film = make_film().astype(kind)
    film[3, 3] = np.nan
    film[4, 4] = np.inf

    pixels = read_image(as_bytes(floating(film))).pixels

    assert pixels[0, 0] == 0
    assert pixels[-1, -1] == 255


@pytest.mark.parametrize("slope", [0.37, 1, 12.5])
@pytest.mark.parametrize("intercept", [-1024, 0, 77.5])
def test_rescale_comes_before_the_window(slope, intercept):
    dataset = make_dicom(
        make_film(),
        bits_stored=12,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=round(2000 * slope + intercept, 2),
        WindowWidth=round(1500 * slope, 2),
    )

    assert_within_one(read_image(as_bytes(dataset)).pixels, displayed(dataset))


def test_a_modality_lut_comes_before_the_window():
    entries = (4095 * (np.arange(4096) / 4095) ** 0.5).astype(np.uint16)
    dataset = make_dicom(
        make_film(), bits_stored=12, ModalityLUTSequence=lut_item(entries, bits=16), **WINDOW
    )

    assert_within_one(read_image(as_bytes(dataset)).pixels, displayed(dataset))


@pytest.mark.parametrize("first", [0, 500, 40000, -300])
@pytest.mark.parametrize("implicit", [False, True])
def test_a_voi_lut_outranks_a_window_and_starts_anywhere(first, implicit):
    entries = (1023 * (np.arange(2000) / 1999) ** 2).astype(np.uint16)
    film = make_film(bits=16)
    if first < 0:
        film = (film.astype(np.int32) - 30000).clip(-32768, 32767).astype(np.int16)
    dataset = make_dicom(film, VOILUTSequence=lut_item(entries, first=first, bits=10), **WINDOW)
    if implicit:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"

    assert_within_one(read_image(as_bytes(dataset)).pixels, displayed(dataset))


@pytest.mark.parametrize(
    ("bits", "brightest", "white"),
    [
        (12, 4095, 4095),
        (12, 3000, 4095),
        (8, 255, 255),
        (16, 65535, 65535),
        pytest.param(16, 4095, 4095, id="16-said-12-used"),
        pytest.param(10, 4095, 4095, id="10-said-12-used"),
        pytest.param(16, 90, 255, id="never-less-than-8"),
    ],
)
def test_a_voi_lut_is_as_bright_as_its_entries_are_of_their_bits(bits, brightest, white):
    entries = np.linspace(brightest // 5, brightest, 4096).astype(np.uint16)
    film = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    dataset = make_dicom(film, bits_stored=12, VOILUTSequence=lut_item(entries, bits=bits))

    ours = read_image(as_bytes(dataset)).pixels

    assert_within_one(ours.reshape(-1), entries * (255 / white))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("stored", [np.uint16, np.int16])
def test_a_voi_lut_starts_below_zero_where_rescaled_values_do(stored, syntax):
    film = np.arange(2048, dtype=stored).reshape(32, 64)
    entries = np.linspace(0, 65535, 2048).astype(np.uint16)
    table = lut_item(entries)
    table[0].add_new("LUTDescriptor", "SS", [2048, -1024, 16])
    dataset = make_dicom(
        film, syntax=syntax, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=table
    )

    ours = read_image(as_bytes(dataset)).pixels

    np.testing.assert_array_equal(ours.reshape(-1), np.rint(entries / 257))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("stored", [np.uint16, np.int16])
def test_a_voi_lut_behind_a_modality_lut_starts_above_32767_where_it_says_so(stored, syntax):
    entries = np.linspace(0, 65535, 256).astype(np.uint16)
    table = lut_item(entries)
    table[0].add_new("LUTDescriptor", "US", [256, 40000, 16])
    dataset = make_dicom(
        np.arange(256, dtype=stored).reshape(8, 32),
        syntax=syntax,
        ModalityLUTSequence=lut_item(np.arange(40000, 40256)),
        VOILUTSequence=table,
    )

    ours = read_image(as_bytes(dataset)).pixels

    np.testing.assert_array_equal(ours.reshape(-1), np.rint(entries / 257))


def test_of_several_windows_the_first_is_taken():
    film = make_film()
    several = make_dicom(film, bits_stored=12, WindowCenter=[1800, 400], WindowWidth=[2300, 100])
    one = make_dicom(film, bits_stored=12, **WINDOW)

    np.testing.assert_array_equal(
        read_image(as_bytes(several)).pixels, read_image(as_bytes(one)).pixels
    )


@pytest.mark.parametrize(
    "useless",
    [
        {"WindowCenter": 100, "WindowWidth": 0},
        {"WindowCenter": 100, "WindowWidth": -5},
        {"WindowCenter": 100},
        {"WindowWidth": 100},
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowCenter": ["", ""], "WindowWidth": ["", ""]},
    ],
)
def test_a_window_that_makes_no_sense_counts_as_none(useless):
    film = make_film()

    with_it = read_image(as_bytes(make_dicom(film, bits_stored=12, **useless))).pixels

    np.testing.assert_array_equal(
        with_it, read_image(as_bytes(make_dicom(film, bits_stored=12))).pixels
    )


@pytest.mark.parametrize(
    ("centers", "widths", "empty"),
    [
        (["1800", ""], ["2300", ""], 2),
        (["1800", " "], ["2300", "100"], 2),
        (["1800", "400"], ["2300", ""], 2),
        (["", "1800"], ["100", "2300"], 1),
        (["400", "1800"], ["1e999", "2300"], 1),
    ],
)
def test_a_window_that_is_empty_among_others_is_none_and_keeps_its_number(centers, widths, empty):
    film = make_film()
    several = make_dicom(film, bits_stored=12, WindowCenter=centers, WindowWidth=widths)
    file = open_image(as_bytes(several))
    one = read_image(as_bytes(make_dicom(film, bits_stored=12, **WINDOW)))

    for number in (None, 3 - empty):
        image = file.read(window=number)
        assert image.voi == one.voi
        np.testing.assert_array_equal(image.pixels, one.pixels)
    with pytest.raises(WindowNotFound, match=f"window {empty} of 2 is no numbers, expected center"):
        file.read(window=empty)


@pytest.mark.parametrize(
    ("center", "shown"), [(100.5, [0, 0, 255]), (100, [0, 255, 255]), (99.5, [0, 255, 255])]
)
def test_a_window_one_wide_is_a_threshold(center, shown):
    # PS3.3 C.11.2.1.2.1: black up to c - 0.5 - (w - 1) / 2, white above c - 0.5 + (w - 1) / 2
    film = np.array([[99, 100, 101]], np.uint16)
    dataset = make_dicom(film, WindowCenter=center, WindowWidth=1)

    np.testing.assert_array_equal(read_image(as_bytes(dataset)).pixels, [shown])


def by_the_standard(value: float, center: float, width: float, function: str) -> float:
    """Brightness in [0, 255] of a value, as PS3.3 C.11.2.1.2.1 and C.11.2.1.3.2 spell it."""
    below, above = center - width / 2, center + width / 2
    share = (value - center) / width + 0.5
    if function == "LINEAR":
        below, above = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
        share = (value - (center - 0.5)) / (width - 1) + 0.5
    return 255 * (0 if value <= below else 1 if value > above else share)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
@pytest.mark.parametrize(("center", "width"), [(12, 6), (11.5, 5), (13, 2), (10, 9.5)])
def test_a_window_of_a_few_values_is_that_of_the_standard(center, width, function):
    film = np.arange(8, 20, dtype=np.uint8).reshape(3, 4)
    dataset = make_dicom(film, WindowCenter=center, WindowWidth=width, VOILUTFunction=function)

    expected = [by_the_standard(value, center, width, function) for value in range(8, 20)]
    assert_within_one(read_image(as_bytes(dataset)).pixels.reshape(-1), np.array(expected))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", None])
def test_of_a_few_values_the_window_told_is_exactly_the_one_that_shows_them(function):
    film = np.array([[10, 11, 12, 13]], np.uint8)

    image = read_image(as_bytes(make_dicom(film, VOILUTFunction=function)))

    told = image.voi.window
    again = [by_the_standard(value, *astuple(told), function or "LINEAR") for value in film[0]]
    np.testing.assert_array_equal(image.pixels, [[0, 85, 170, 255]])
    np.testing.assert_allclose(again, image.pixels[0], atol=1e-9)


def test_the_window_told_of_a_table_goes_from_its_first_change_to_its_last():
    film = np.array([[10, 11, 12, 13]], np.uint8)
    table = lut_item(np.array([0, 0, 90, 200, 255, 255]), first=9, bits=8)

    image = read_image(as_bytes(make_dicom(film, VOILUTSequence=table)))

    np.testing.assert_array_equal(image.pixels, [[0, 90, 200, 255]])
    ends = [by_the_standard(value, *astuple(image.voi.window), "LINEAR") for value in film[0]]
    np.testing.assert_allclose(ends, [0, 85, 170, 255], atol=1e-9)


def test_a_window_narrower_than_one_is_one_where_values_lie_that_close():
    values = np.linspace(0, 1, 41, dtype=np.float32).reshape(1, 41)
    window = {"VOILUTFunction": "LINEAR_EXACT", "WindowCenter": 0.5, "WindowWidth": 0.25}

    pixels = read_image(as_bytes(floating(values, **window))).pixels[0]

    expected = [by_the_standard(value, 0.5, 0.25, "LINEAR_EXACT") for value in values[0]]
    assert_within_one(pixels, np.array(expected))


def test_a_slope_of_zero_says_nothing():
    film = make_film()
    zero = make_dicom(film, bits_stored=12, RescaleSlope=0, RescaleIntercept=0, **WINDOW)

    np.testing.assert_array_equal(
        read_image(as_bytes(zero)).pixels,
        read_image(as_bytes(make_dicom(film, bits_stored=12, **WINDOW))).pixels,
    )


def test_a_value_between_two_entries_of_a_table_has_the_nearer_one():
    film = np.arange(12, dtype=np.uint8).reshape(3, 4)
    entries = np.array([0, 40, 90, 150, 255])
    dataset = make_dicom(
        film,
        RescaleSlope="0.4",
        RescaleIntercept=0,
        VOILUTSequence=lut_item(entries, bits=8),
    )

    nearest = [entries[np.abs(np.arange(5) - 0.4 * value).argmin()] for value in range(12)]
    np.testing.assert_array_equal(read_image(as_bytes(dataset)).pixels.reshape(-1), nearest)


def test_a_table_that_says_no_entries_has_65536():
    film = make_film(bits=16)
    entries = np.arange(65536)[::-1]  # the descriptor has no room for their number (C.11.2.1.1)

    pixels = read_image(as_bytes(make_dicom(film, VOILUTSequence=lut_item(entries)))).pixels

    assert_within_one(pixels, (65535 - film.astype(np.float64)) / 257)


@pytest.mark.parametrize("high_bit", [0, 10, 16, 40])
def test_a_high_bit_that_cannot_be_counts_as_the_usual_one(high_bit):
    film = make_film()
    odd = make_dicom(film, bits_stored=12, HighBit=high_bit, **WINDOW)

    np.testing.assert_array_equal(
        read_image(as_bytes(odd)).pixels,
        read_image(as_bytes(make_dicom(film, bits_stored=12, **WINDOW))).pixels,
    )


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_takes_no_part_in_the_range(photometric):
    film = make_film(bits=10) + 1000
    film[:10] = 0
    film[10:12] = 17
    dataset = make_dicom(
        film,
        photometric=photometric,
        bits_stored=12,
        PixelPaddingValue=0,
        PixelPaddingRangeLimit=20,
    )

    ours = read_image(as_bytes(dataset)).pixels

    assert_within_one(ours, displayed(dataset))
    assert {ours[12:].min(), ours[12:].max()} == {0, 255}


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_padding_of_signed_pixels_is_understood_signed(syntax):
    film = make_film(bits=10).astype(np.int16)
    film[:10] = -2000
    dataset = make_dicom(film, syntax=syntax, PixelPaddingValue=-2000)

    ours = read_image(as_bytes(dataset)).pixels

    assert ours[10:].min() == 0
    assert np.ptp(ours[10:]) == 255


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("slope", [1, -2])
@pytest.mark.parametrize("kind", [np.uint32, np.int32])
def test_padding_of_32_bits_takes_no_part_in_the_range(kind, slope, syntax):
    film = make_film(bits=20).astype(kind) + 1000
    low = -32768 if kind is np.int32 else 0
    film[:10], film[10:12] = low, low + 17
    dataset = make_dicom(
        film,
        syntax=syntax,
        RescaleSlope=slope,
        RescaleIntercept=0,
        PixelPaddingValue=low,
        PixelPaddingRangeLimit=low + 20,
    )

    ours = read_image(as_bytes(dataset)).pixels

    assert_within_one(ours, displayed(dataset))
    assert {ours[12:].min(), ours[12:].max()} == {0, 255}


@pytest.mark.parametrize("limit", [None, 0.5, -np.inf, np.nan])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_padding_of_floating_point_pixels_takes_no_part_in_the_range(kind, limit):
    film = (make_film() + 1).astype(kind)
    expected = read_image(as_bytes(floating(film[12:]))).pixels
    film[:12] = -1.1e6
    film[10:12] = {0.5: -7, -np.inf: -np.inf}.get(limit, np.nan)
    attributes = {"FloatPixelPaddingValue": float(film[0, 0]), "FloatPixelPaddingRangeLimit": limit}

    ours = read_image(as_bytes(floating(film, **attributes))).pixels

    np.testing.assert_array_equal(ours[12:], expected)


def wide_films() -> dict[str, bytes]:
    """Films of more than 16 bits, some rows of them nothing but padding, NaN or infinite."""
    film = make_film(61, 47, bits=31)
    film[:5] = 7
    signed = make_film(61, 47, bits=20).astype(np.int32) - (1 << 19)
    real = make_film(61, 47).astype(np.float32) * np.float32(1.37)
    real[20:24], real[30], real[31] = np.nan, np.inf, -np.inf
    window = {"WindowCenter": 2.0**29, "WindowWidth": 2.0**30}
    color = np.stack([film, film[::-1], film[:, ::-1]], axis=-1)
    return {
        "range": as_bytes(make_dicom(film)),
        "padded": as_bytes(make_dicom(film, PixelPaddingValue=7, photometric="MONOCHROME1")),
        "window": as_bytes(make_dicom(film, RescaleSlope=0.37, RescaleIntercept=-12, **window)),
        "sigmoid": as_bytes(make_dicom(film, VOILUTFunction="SIGMOID", **window)),
        "signed": as_bytes(make_dicom(signed, bits_stored=20)),
        "table": as_bytes(make_dicom(signed, VOILUTSequence=lut_item(np.arange(4096)))),
        "real": as_bytes(floating(real)),
        "double": as_bytes(floating(real.astype(np.float64))),
        "color": as_bytes(make_dicom(color)),
        "color in planes": as_bytes(make_dicom(color, planar=1)),
    }


@pytest.mark.parametrize(("name", "data"), wide_films().items())
def test_pixels_computed_in_blocks_are_those_of_the_whole_frame(name, data, monkeypatch):
    seen = []
    for at_once in (1 << 30, 1 << 16, 47 * 7, 1):  # the whole frame, twice; seven rows; one row
        monkeypatch.setattr("imaging.dicom_display.PIXELS_AT_ONCE", at_once)
        seen.append(read_image(data))

    for image in seen[1:]:
        np.testing.assert_array_equal(image.pixels, seen[0].pixels)
        assert image.voi == seen[0].voi


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("kind", [np.uint32, np.float32, np.float64])
def test_pixels_of_many_bits_take_little_memory_beside_the_film(kind, windowed):
    film = make_film(1500, 1500, bits=20).astype(kind)
    dataset = make_dicom(film) if kind is np.uint32 else floating(film)
    if windowed:
        dataset.WindowCenter, dataset.WindowWidth = 2**19, 2**20
    file = open_image(as_bytes(dataset))

    tracemalloc.start()
    file.read()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 2 * film.size + 40 * PIXELS_AT_ONCE


def test_a_picture_of_nothing_but_padding_has_one_brightness():
    dataset = make_dicom(np.full((8, 9), 7, np.uint32), PixelPaddingValue=7)

    assert np.ptp(read_image(as_bytes(dataset)).pixels) == 0


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize("stored_in", ["MONOCHROME1", "MONOCHROME2"])
def test_a_film_and_its_negative_come_out_alike(stored_in, kind, windowed):
    film = make_film(bits=7 if kind is np.uint8 else 12).astype(kind)
    top = int(film.max())
    window = {"VOILUTFunction": "LINEAR_EXACT", "WindowCenter": top / 2, "WindowWidth": top / 2}
    attributes = window if windowed else {}

    film_in = make_dicom(film, photometric="MONOCHROME2", **attributes)
    negative = make_dicom((top - film).astype(kind), photometric="MONOCHROME1", **attributes)

    difference = (
        read_image(as_bytes(film_in)).pixels.astype(int) - read_image(as_bytes(negative)).pixels
    )
    assert np.abs(difference).max() <= 1


def test_the_presentation_lut_shape_inverts_too_but_not_twice():
    film = make_film()
    plain = read_image(as_bytes(make_dicom(film, **WINDOW))).pixels

    inverse = make_dicom(film, PresentationLUTShape="INVERSE", **WINDOW)
    both = make_dicom(film, photometric="MONOCHROME1", PresentationLUTShape="INVERSE", **WINDOW)

    np.testing.assert_array_equal(read_image(as_bytes(inverse)).pixels, 255 - plain)
    np.testing.assert_array_equal(read_image(as_bytes(both)).pixels, 255 - plain)


def test_monochrome1_is_inverted_also_where_the_lut_shape_contradicts_it():
    film = make_film()
    plain = read_image(as_bytes(make_dicom(film, **WINDOW))).pixels
    odd = make_dicom(film, photometric="MONOCHROME1", PresentationLUTShape="IDENTITY", **WINDOW)
    np.testing.assert_array_equal(read_image(as_bytes(odd)).pixels, 255 - plain)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("attributes", [{}, WINDOW, {"PixelPaddingValue": 7}])
def test_a_constant_picture_has_one_brightness(photometric, attributes):
    dataset = make_dicom(np.full((8, 9), 7, np.uint16), photometric=photometric, **attributes)

    assert np.ptp(read_image(as_bytes(dataset)).pixels) == 0


def test_what_is_in_unused_bits_is_not_seen():
    film = make_film()
    clean = read_image(as_bytes(make_dicom(film, bits_stored=12, **WINDOW))).pixels
    overlay_in_high_bits = film | np.where(np.arange(film.size).reshape(film.shape) % 3, 0, 0x8000)
    overlay_in_low_bits = (film << 4) | 0b1010

    for attributes in (WINDOW, {}):
        expected = read_image(as_bytes(make_dicom(film, bits_stored=12, **attributes))).pixels
        high = make_dicom(overlay_in_high_bits.astype(np.uint16), bits_stored=12, **attributes)
        low = make_dicom(
            overlay_in_low_bits.astype(np.uint16), bits_stored=12, HighBit=15, **attributes
        )
        np.testing.assert_array_equal(read_image(as_bytes(high)).pixels, expected)
        np.testing.assert_array_equal(read_image(as_bytes(low)).pixels, expected)
    assert clean.std() > 10


def test_one_bit_pixels_are_unpacked_frame_by_frame():
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 2, (3, 5, 7), dtype=np.uint8)
    packed = np.packbits(frames.reshape(-1), bitorder="little").tobytes()
    dataset = make_dicom(frames, frames=3, BitsAllocated=1, BitsStored=1, HighBit=0)
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    data = as_bytes(dataset)

    for index in range(3):
        np.testing.assert_array_equal(read_image(data, frame=index + 1).pixels, frames[index] * 255)


def test_an_enhanced_object_has_its_window_per_frame():
    film = make_film()
    stack = np.stack([film, film])

    def functional_group(center: float, slope: float) -> Dataset:
        window, rescale = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = center, 2000
        rescale.RescaleSlope, rescale.RescaleIntercept = slope, 0
        return group(FrameVOILUTSequence=window, PixelValueTransformationSequence=rescale)

    dataset = make_dicom(stack, frames=2, bits_stored=12)
    dataset.PerFrameFunctionalGroupsSequence = [
        functional_group(1000, 1),
        functional_group(4000, 2),
    ]
    data = as_bytes(dataset)

    for index, (center, slope) in enumerate([(1000, 1), (4000, 2)]):
        single = make_dicom(
            film,
            bits_stored=12,
            WindowCenter=center,
            WindowWidth=2000,
            RescaleSlope=slope,
            RescaleIntercept=0,
        )
        np.testing.assert_array_equal(
            read_image(data, frame=index + 1).pixels, read_image(as_bytes(single)).pixels
        )


def test_each_of_several_windows_can_be_chosen_by_its_number():
    film = make_film()
    several = as_bytes(
        make_dicom(film, bits_stored=12, WindowCenter=[2000, 900], WindowWidth=[3000, 500])
    )

    for number, (center, width) in enumerate([(2000, 3000), (900, 500)], start=1):
        one = make_dicom(film, bits_stored=12, WindowCenter=center, WindowWidth=width)
        chosen = open_image(several).read(window=number).pixels
        np.testing.assert_array_equal(chosen, read_image(as_bytes(one)).pixels)
        given = open_image(several).read(window=Window(center, width)).pixels
        np.testing.assert_array_equal(given, chosen)


def test_look_up_tables_are_numbered_before_windows():
    film = make_film()
    both = make_dicom(film, bits_stored=12, **WINDOW, VOILUTSequence=lut_item(np.arange(4096)))
    table = make_dicom(film, bits_stored=12, VOILUTSequence=lut_item(np.arange(4096)))
    window = make_dicom(film, bits_stored=12, **WINDOW)

    for number, alone in enumerate([table, window], start=1):
        np.testing.assert_array_equal(
            open_image(as_bytes(both)).read(window=number).pixels,
            read_image(as_bytes(alone)).pixels,
        )


@pytest.mark.parametrize("number", [0, 3])
def test_a_window_that_is_not_there_is_named(number):
    data = as_bytes(make_dicom(make_film(), WindowCenter=[1, 2], WindowWidth=[3, 4]))

    with pytest.raises(WindowNotFound, match=f"has 2 windows, there is no window {number}"):
        open_image(data).read(window=number)


def test_a_given_window_keeps_monochrome1_inverted_last():
    film = make_film()
    window = Window(1000, 600)
    plain = open_image(as_bytes(make_dicom(film, bits_stored=12))).read(window=window).pixels
    data = as_bytes(make_dicom(film, bits_stored=12, photometric="MONOCHROME1"))

    np.testing.assert_array_equal(open_image(data).read(window=window).pixels, 255 - plain)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("source", "attributes"),
    [
        ("file", WINDOW),
        ("table", {"VOILUTSequence": lut_item(np.arange(1024), first=700)}),
        ("table", {"VOILUTSequence": lut_item(np.linspace(500, 3000, 4096).astype(int), bits=12)}),
        ("range", {}),
        ("range", {"VOILUTFunction": "LINEAR_EXACT"}),
        ("range", {"RescaleSlope": "0.5", "RescaleIntercept": "-1000"}),
    ],
)
def test_the_window_told_shows_the_same_picture_when_it_is_asked_for(
    source, attributes, photometric
):
    dataset = make_dicom(make_film(), bits_stored=12, photometric=photometric, **attributes)
    file = open_image(as_bytes(dataset))

    image = file.read()

    assert image.voi.source == source
    assert image.voi.inverted == (photometric == "MONOCHROME1")
    again = file.read(window=image.voi.window)
    assert again.voi == replace(image.voi, source="chosen")
    assert_within_one(again.pixels, image.pixels.astype(float))


def test_the_window_of_a_file_is_told_as_it_is_written():
    several = make_dicom(make_film(), WindowCenter=[2000, 900], WindowWidth=[3000, 500])

    told = [open_image(as_bytes(several)).read(window=number).voi.window for number in (1, 2)]

    assert told == [Window(2000, 3000), Window(900, 500)]


def test_a_color_picture_has_no_windows():
    assert read_image(as_bytes(make_dicom(make_color()))).voi is None
    with pytest.raises(WindowNotFound, match="color"):
        open_image(as_bytes(make_dicom(make_color()))).read(window=Window(1, 2))
