"""TIFF and BMP → display-ready pixels; Pillow writes them, which shares no code with ours."""

import io
import struct
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image

from imaging.errors import ImageTooLarge, ImagingError, UnreadableImage, UnsupportedImage
from imaging.reading import open_image, read_image
from tests.factories import as_bytes, make_color, make_dicom, make_film
from tests.imaging.test_damage import damaged
from tests.imaging.test_photo import STORED

GRAY, DEEP, COLOR = make_film(40, 64, bits=8), make_film(40, 64, bits=16), make_color(40, 64)
EIGHT_BITS = {id(GRAY): GRAY, id(DEEP): np.rint(DEEP / 257).astype(np.uint8), id(COLOR): COLOR}
PICTURES = pytest.mark.parametrize("picture", [GRAY, DEEP, COLOR], ids=["8", "16", "RGB"])


def written(picture: np.ndarray | Image.Image, kind: str = "TIFF", **options: object) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def patched(data: bytes, **tags: int) -> bytes:
    """A little-endian TIFF with other numbers in some of its tags, named t<number>."""
    copy = bytearray(data)
    (at,) = struct.unpack_from("<I", copy, 4)
    (count,) = struct.unpack_from("<H", copy, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from("<HH", copy, entry)
        if (number := tags.get(f"t{tag}")) is not None:
            struct.pack_into("<H" if kind == 3 else "<I", copy, entry + 8, number)
    return bytes(copy)


@PICTURES
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_tiff_is_taken_as_it_is(picture, compression):
    image = read_image(written(picture, compression=compression))

    np.testing.assert_array_equal(image.pixels, EIGHT_BITS[id(picture)])
    assert (image.facts.kind, image.facts.width, image.facts.height) == ("tiff", 64, 40)


@PICTURES
@pytest.mark.parametrize("orientation", STORED)
def test_a_tiff_is_brought_upright(picture, orientation):
    file = open_image(written(picture, tiffinfo={274: orientation}))

    pixels = file.read().pixels

    assert pixels.shape[:2] == (file.facts.height, file.facts.width)
    np.testing.assert_array_equal(STORED[orientation](pixels), EIGHT_BITS[id(picture)])


@pytest.mark.parametrize("picture", [GRAY, DEEP], ids=["8", "16"])
def test_white_is_zero_is_inverted(picture):
    pixels = read_image(patched(written(picture), t262=0)).pixels

    np.testing.assert_array_equal(pixels, 255 - EIGHT_BITS[id(picture)])


@pytest.mark.parametrize("kind", ["TIFF", "BMP"])
def test_a_palette_becomes_its_colors(kind):
    image = Image.fromarray(COLOR).quantize(16)

    np.testing.assert_array_equal(
        read_image(written(image, kind)).pixels, np.array(image.convert("RGB"))
    )


def test_a_big_endian_tiff_in_tiles_is_read():
    rows, columns = 40, 64
    tiles = [np.zeros((32, 32), np.uint8) for _ in range(4)]
    for index, tile in enumerate(tiles):
        top, left = index // 2 * 32, index % 2 * 32
        part = GRAY[top : top + 32, left : left + 32]
        tile[: part.shape[0]] = part
    entries = [
        *((256, 4, 1, columns), (257, 4, 1, rows), (258, 3, 1, 8 << 16), (259, 3, 1, 1 << 16)),
        *((262, 3, 1, 1 << 16), (277, 3, 1, 1 << 16), (322, 4, 1, 32), (323, 4, 1, 32)),
        *((324, 4, 4, 8), (325, 4, 4, 24)),
    ]
    places = [40 + 1024 * index for index in range(4)]
    body = b"".join(tile.tobytes() for tile in tiles)
    data = b"MM\0*" + struct.pack(">I", 40 + len(body)) + struct.pack(">8I", *places, *[1024] * 4)
    data += body + struct.pack(">H", len(entries))
    data += b"".join(struct.pack(">HHII", *entry) for entry in entries) + bytes(4)

    np.testing.assert_array_equal(read_image(data).pixels, GRAY)


def test_a_tiff_of_several_pages_is_refused_by_their_number():
    pages = [Image.fromarray(GRAY)] * 2
    data = written(GRAY, save_all=True, append_images=pages)

    with pytest.raises(UnsupportedImage, match="a TIFF of 3 pages, expected one"):
        open_image(data)


def test_colors_in_planes_are_put_together_or_refused_by_name():
    def in_planes(picture: np.ndarray) -> bytes:
        """One strip a plane, none compressed."""
        planes = [np.ascontiguousarray(picture[..., index]).tobytes() for index in range(3)]
        length, bits = len(planes[0]), 8 * picture.itemsize
        entries = [
            *((256, 4, 1, 64), (257, 4, 1, 40), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 2)),
            *((273, 4, 3, 8), (277, 3, 1, 3), (278, 4, 1, 40), (279, 4, 3, 20), (284, 3, 1, 2)),
        ]
        lists = struct.pack("<6I", *(32 + length * index for index in range(3)), *[length] * 3)
        data = b"II*\0" + struct.pack("<I", 32 + 3 * length) + lists + b"".join(planes)
        data += struct.pack("<H", len(entries))
        return data + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)

    np.testing.assert_array_equal(read_image(in_planes(COLOR)).pixels, COLOR)
    with pytest.raises(UnsupportedImage, match="16 bits in planes"):
        open_image(in_planes(COLOR.astype(np.uint16) * 257))


def test_pages_that_go_round_in_a_circle_are_refused():
    data = bytearray(written(GRAY))
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * count, at)

    with pytest.raises(UnreadableImage, match="circle"):
        open_image(bytes(data))


@pytest.mark.parametrize("tags", [range(1000, 1030), [273] * 30], ids=["unknown", "strips"])
def test_tags_of_very_many_values_take_little_memory(tags):
    values = 1 << 20
    data = b"II*\0" + struct.pack("<IH", 8, len(tags))
    data += b"".join(struct.pack("<HHII", tag, 1, values, 64) for tag in tags)
    data += bytes(64 + values)

    tracemalloc.start()
    with pytest.raises(UnsupportedImage):
        open_image(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (patched(written(GRAY), t256=20_000, t257=20_000), ImageTooLarge, "400 megapixels"),
        (patched(written(GRAY), t256=0), UnreadableImage, "0x40"),
        (patched(written(GRAY), t257=4000), UnreadableImage, "truncated"),
        (patched(written(GRAY), t273=1 << 30), UnreadableImage, "truncated"),
        (written(Image.fromarray(COLOR).convert("CMYK")), UnsupportedImage, "4 colors"),
        (written(np.dstack([COLOR, GRAY])), UnsupportedImage, "4 colors"),
        (written(GRAY.astype(np.float32)), UnsupportedImage, "rare numbers"),
        (written(COLOR, compression="jpeg"), UnsupportedImage, "compression 7"),
        (written(GRAY, "BMP")[:-9], UnreadableImage, "truncated BMP"),
        (b"BM" + bytes(12) + b"\x0c" + bytes(30), UnsupportedImage, "OS/2"),
        (b"BM" + bytes(12) + b"\x28" + bytes(50), UnreadableImage, "0x0"),
    ],
)
def test_what_is_no_sound_picture_is_refused_before_it_is_decoded(data, kind, words, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)

    with pytest.raises(kind, match=words):
        read_image(data)


@pytest.mark.parametrize("magic", [b"II*\0", b"MM\0*", b"BM"])
def test_a_dicom_file_whose_preamble_is_that_of_another_kind_is_dicom(magic):
    data = as_bytes(make_dicom(GRAY))

    image = read_image(magic + data[len(magic) :])

    assert image.facts.kind == "dicom"


@pytest.mark.parametrize("picture", [GRAY, COLOR], ids=["gray", "RGB"])
def test_a_bmp_is_taken_as_it_is(picture):
    image = read_image(written(picture, "BMP"))

    np.testing.assert_array_equal(image.pixels, picture)
    assert (image.facts.kind, image.facts.width, image.facts.height) == ("bmp", 64, 40)


def test_a_bmp_may_start_with_its_upper_row():
    data = bytearray(written(COLOR, "BMP"))
    struct.pack_into("<i", data, 22, -40)

    np.testing.assert_array_equal(read_image(bytes(data)).pixels, COLOR[::-1])


def test_the_fourth_byte_of_a_bmp_is_no_transparency():
    np.testing.assert_array_equal(
        read_image(written(np.dstack([COLOR, GRAY]), "BMP")).pixels, COLOR
    )


@pytest.mark.parametrize("header", [40, 52])
@pytest.mark.parametrize("fourth", [0, 99])
def test_nor_is_it_where_masks_say_which_bits_are_red_green_and_blue(header, fourth):
    turned = COLOR[..., ::-1]
    data = written(np.dstack([turned, np.full_like(GRAY, fourth)]), "BMP")
    masks = struct.pack("<III", 0xFF, 0xFF00, 0xFF0000)
    copy = bytearray(data[:54] + masks + data[54:])
    struct.pack_into("<II", copy, 10, 66, header)
    struct.pack_into("<I", copy, 30, 3)

    np.testing.assert_array_equal(read_image(bytes(copy)).pixels, COLOR)
    with pytest.raises(UnreadableImage, match="truncated BMP"):
        read_image(bytes(copy[:-1]))


@pytest.mark.parametrize(
    "data",
    [
        written(DEEP, compression="tiff_lzw"),
        written(COLOR, compression="tiff_adobe_deflate"),
        written(GRAY, compression="packbits"),
        written(COLOR),
        written(COLOR, "BMP"),
    ],
    ids=["LZW", "deflate", "PackBits", "plain", "BMP"],
)
def test_damage_ends_in_a_picture_or_in_our_error_and_is_not_talked_about(data, capfd):
    for case in damaged(data, 150, seed=len(data)):
        try:
            pixels = read_image(case, max_megapixels=1).pixels
        except ImagingError:
            continue
        assert pixels.dtype == np.uint8
    assert capfd.readouterr().err == ""
