"""PNG and JPEG → display-ready pixels."""

import struct

import cv2
import numpy as np
import pytest

from imaging.errors import ImagingError, UnreadableImage, UnsupportedImage
from imaging.reading import open_image, read_image
from tests.factories import as_jpeg, as_png, make_color, make_film, png_chunk, raw_png

# How a picture is stored so that its EXIF orientation brings it upright (EXIF 2.3, 4.6.4 A).
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: np.swapaxes(upright, 0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.swapaxes(upright, 0, 1)[::-1, ::-1],
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("upright", [make_film(40, 64, bits=8), make_color(40, 64)])
def test_exif_orientation_is_undone(orientation, upright):
    stored = np.ascontiguousarray(STORED[orientation](upright))

    file = open_image(as_jpeg(stored, orientation=orientation, quality=100))

    assert (file.facts.width, file.facts.height) == (64, 40)
    plain = read_image(as_jpeg(stored, quality=100)).pixels
    pixels = file.read().pixels
    np.testing.assert_array_equal(STORED[orientation](pixels), plain)
    assert np.abs(pixels.astype(int) - upright).mean() < 6


@pytest.mark.parametrize("orientation", [0, 9, 60000])
def test_a_senseless_orientation_counts_as_upright(orientation):
    picture = make_color()

    np.testing.assert_array_equal(
        read_image(as_jpeg(picture, orientation=orientation)).pixels,
        read_image(as_jpeg(picture)).pixels,
    )


@pytest.mark.parametrize("second", [1, 3, 8])
def test_of_two_exif_blocks_the_first_that_turns_the_picture_counts(second):
    picture = make_color(40, 64)
    once, other = (as_jpeg(picture, orientation=number) for number in (6, second))
    block = other[2 : 4 + int.from_bytes(other[4:6], "big")]
    after_first = 4 + int.from_bytes(once[4:6], "big")

    twice = once[:after_first] + block + once[after_first:]

    np.testing.assert_array_equal(read_image(twice).pixels, read_image(once).pixels)
    np.testing.assert_array_equal(
        read_image(once[:2] + as_jpeg(picture, orientation=1)[2:after_first] + once[2:]).pixels,
        read_image(once).pixels,
    )


@pytest.mark.parametrize("picture", [make_film(33, 21, bits=8), make_color(33, 21)])
def test_an_8_bit_png_is_taken_as_it_is(picture):
    image = read_image(as_png(picture))

    np.testing.assert_array_equal(image.pixels, picture)
    assert (image.facts.kind, image.facts.width, image.facts.height) == ("png", 21, 33)


def test_a_16_bit_png_is_scaled_by_257_and_rounded():
    picture = make_film(bits=16)

    np.testing.assert_array_equal(
        read_image(as_png(picture)).pixels, np.rint(picture / 257).astype(np.uint8)
    )


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_gray_that_a_program_left_in_a_detectors_bits_is_as_bright_as_the_film(bits, suffix):
    film = make_film(bits=bits).astype(np.uint16)
    film[0, 0] = (1 << bits) - 1
    stored = cv2.imencode(suffix, film)[1].tobytes()

    expected = np.rint(film * 255.0 / ((1 << bits) - 1)).astype(np.uint8)
    np.testing.assert_array_equal(read_image(stored).pixels, expected)


def test_gray_of_more_than_a_detectors_bits_and_dark_colors_are_taken_as_they_are():
    film = np.array([[0, 4096, 1000]], np.uint16)
    color = np.array([[[0, 100, 4000]]], np.uint16)

    assert read_image(as_png(film)).pixels.tolist() == [[0, 16, 4]]
    assert read_image(as_png(color)).pixels.tolist() == [[[0, 0, 16]]]


def test_transparent_pixels_lie_over_black():
    picture = np.full((2, 3, 4), 200, np.uint8)
    picture[..., 3] = [[0, 128, 255]] * 2

    pixels = read_image(as_png(picture)).pixels

    assert pixels.shape == (2, 3, 3)
    np.testing.assert_array_equal(pixels[0, :, 0], [0, 100, 200])


def header(width: int, height: int, bits: int, kind: int) -> bytes:
    return struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)


def test_gray_with_alpha_is_laid_over_black():
    data = raw_png(header(2, 1, 8, 4), [bytes([200, 255, 200, 0])])

    pixels = read_image(data).pixels

    assert pixels.max() == 200
    assert pixels.reshape(2, -1)[:, 0].tolist() == [200, 0]


@pytest.mark.parametrize("below_white", [0, 1])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_gray_of_a_png_lies_over_black(depth, below_white):
    most = (1 << depth) - 1
    values = np.random.default_rng(0).integers(0, most + 1, (6, 8))
    values[0, :2] = most, most - 1
    bits = values[..., None] >> np.arange(depth)[::-1] & 1
    rows = [bytes(row) for row in np.packbits(bits.reshape(6, -1).astype(np.uint8), axis=1)]
    key = most - below_white
    higher_bits = (1 << 16) - (1 << depth)  # mean nothing
    chunk = png_chunk(b"tRNS", struct.pack(">H", key | higher_bits))
    data = raw_png(header(8, 6, depth, 0), rows, chunk)

    pixels = read_image(data).pixels

    values[values == key] = 0
    np.testing.assert_array_equal(pixels, np.rint(values * 255 / most))


def test_a_gray_and_a_colored_png_agree_on_what_is_transparent():
    gray = make_film(bits=8)
    key = int(gray[5, 5])
    rows = [bytes(row) for row in gray]
    colored = [bytes(np.repeat(row, 3)) for row in gray]
    height, width = gray.shape

    as_gray, as_rgb = (
        read_image(raw_png(header(width, height, 8, kind), rows, png_chunk(b"tRNS", body))).pixels
        for kind, rows, body in (
            (0, rows, struct.pack(">H", key)),
            (2, colored, struct.pack(">3H", key, key, key)),
        )
    )

    np.testing.assert_array_equal(np.dstack([as_gray] * 3), as_rgb)
    assert as_gray[5, 5] == 0


@pytest.mark.parametrize("body", [b"", b"\xff", b"\0\xff\0"])
def test_a_transparent_gray_that_makes_no_sense_counts_as_none(body):
    data = raw_png(header(2, 1, 8, 0), [bytes([255, 7])], png_chunk(b"tRNS", body))

    np.testing.assert_array_equal(read_image(data).pixels, [[255, 7]])


def test_one_bit_and_palette_pngs_are_spread_to_8_bits():
    bitmap = raw_png(header(8, 1, 1, 0), [bytes([0b10110001])])
    palette = png_chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
    colored = raw_png(header(2, 1, 8, 3), [bytes([1, 0])], palette)

    np.testing.assert_array_equal(read_image(bitmap).pixels, [[255, 0, 255, 255, 0, 0, 0, 255]])
    np.testing.assert_array_equal(read_image(colored).pixels, [[[0, 0, 255], [255, 0, 0]]])


def test_a_gray_jpeg_stays_gray():
    picture = make_film(48, 64, bits=8)

    pixels = read_image(as_jpeg(picture, quality=100)).pixels

    assert pixels.shape == (48, 64)
    assert np.abs(pixels.astype(int) - picture).max() <= 4


def test_a_progressive_jpeg_is_read():
    bgr = make_color()[..., ::-1]
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()

    assert read_image(data).pixels.shape == bgr.shape


def test_a_jpeg_whose_scans_hold_one_color_each_is_fragile_though_it_is_baseline():
    data = as_jpeg(make_color())
    scan = data.index(b"\xff\xda")  # then its length, and how many colors it holds
    assert data[scan + 4] == 3

    alone = data[: scan + 4] + b"\1" + data[scan + 5 :]

    assert open_image(alone).fragile
    assert not open_image(data).fragile
    assert not open_image(as_jpeg(make_film(bits=8))).fragile


def test_fill_bytes_before_a_jpegs_segments_are_skipped():
    data = as_jpeg(make_color())

    pixels = read_image(data[:2] + b"\xff" * 1000 + data[2:]).pixels

    np.testing.assert_array_equal(pixels, read_image(data).pixels)


def test_a_jpeg_of_endless_segments_is_refused():
    data = as_jpeg(make_color())
    comment = b"\xff\xfe\0\2"
    assert read_image(data[:2] + 9_000 * comment + data[2:]).pixels.shape == (48, 64, 3)

    with pytest.raises(UnreadableImage, match="segments"):
        open_image(data[:2] + 10_000 * comment + data[2:])


def test_a_cmyk_jpeg_is_refused_by_name():
    data = as_jpeg(make_color())
    at = data.index(b"\xff\xc0")
    frame = (
        b"\xff\xc0\0\x14" + data[at + 4 : at + 9] + b"\4" + data[at + 10 : at + 19] + b"\4\x11\1"
    )

    with pytest.raises(UnsupportedImage, match="CMYK"):
        open_image(data[:at] + frame + data[at + 19 :])


def test_a_png_with_a_wrong_checksum_is_refused():
    data = bytearray(as_png(make_film(bits=8)))
    data[-30] ^= 1

    with pytest.raises(UnreadableImage, match="checksum"):
        open_image(bytes(data))


@pytest.mark.parametrize("again", [b"", header(64, 48, 8, 0), header(9, 9, 16, 2)])
def test_a_png_that_says_its_size_twice_is_refused(again):
    data = raw_png(header(64, 48, 8, 0), [bytes(64)] * 48, png_chunk(b"IHDR", again))

    with pytest.raises(UnreadableImage, match="says its size twice"):
        open_image(data)


@pytest.mark.parametrize(
    ("size", "depth", "color", "words"),
    [
        ((4, 4), 3, 0, "3 bits of color type 0"),
        ((4, 4), 8, 5, "8 bits of color type 5"),
        ((4, 4), 16, 3, "16 bits of color type 3"),
        ((2_000_000, 1), 8, 0, "a side may have"),
    ],
)
def test_a_png_header_that_no_decoder_takes_is_refused_without_a_word_on_stderr(
    capfd, size, depth, color, words
):
    data = raw_png(struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0), [bytes(8)] * 4)

    with pytest.raises(ImagingError, match=words):
        read_image(data)
    assert capfd.readouterr().err == ""
