"""TIFF and BMP → display-ready pixels; Pillow writes them, which shares no code with ours."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from itertools import product

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


def in_parts(parts: list[bytes], *, order: str = "<", **tags: int) -> bytes:
    """A gray TIFF of 64x40 pixels, its strips or tiles as they are, its other tags named t<number>.

    There have to be several of them.
    """
    tags = {"t256": 64, "t257": 40, "t258": 8, "t259": 1, "t262": 1, "t277": 1} | tags
    places = {"t324": 0, "t325": 0} if "t322" in tags else {"t273": 0, "t279": 0}
    count = len(parts)
    entries = sorted((int(name[1:]), 1, number) for name, number in (tags | places).items())
    at = 8 + 2 + 12 * len(entries) + 4
    starts = [at + 8 * count + sum(map(len, parts[:index])) for index in range(count)]
    lists = iter((at, at + 4 * count))
    data = b"II*\0" if order == "<" else b"MM\0*"
    data += struct.pack(order + "IH", 8, len(entries))
    for tag, length, number in entries:
        if f"t{tag}" in places:
            length, number = count, next(lists)
        data += struct.pack(order + "HHII", tag, 4, length, number)
    data += struct.pack(f"{order}I{2 * count}I", 0, *starts, *map(len, parts))
    return data + b"".join(parts)


def strips(rows: int = 16) -> list[bytes]:
    return [GRAY[top : top + rows].tobytes() for top in range(0, 40, rows)]


def tiles() -> list[bytes]:
    padded = np.pad(GRAY, ((0, 24), (0, 0)))
    return [padded[y : y + 32, x : x + 32].tobytes() for y in (0, 32) for x in (0, 32)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_in_tiles_is_read(order):
    data = in_parts(tiles(), order=order, t322=32, t323=32)

    np.testing.assert_array_equal(read_image(data).pixels, GRAY)


def simple_lzw(source: bytes, order: str) -> bytes:
    """LZW that repeats nothing: codes of 9 bits, their highest or lowest ("<") bit first."""
    codes = [code for at in range(0, len(source), 200) for code in (256, *source[at : at + 200])]
    bits = np.array([*codes, 257])[:, None] >> np.arange(9) & 1
    if order == "<":
        return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()
    return np.packbits(bits[:, ::-1].astype(np.uint8)).tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
def test_lzw_is_read_as_it_was_written_before_1992_too(order):
    data = in_parts([simple_lzw(strip, order) for strip in strips()], t259=5, t278=16)

    np.testing.assert_array_equal(read_image(data).pixels, GRAY)


def test_bytes_whose_lowest_bit_comes_first_are_turned_before_they_are_unpacked():
    turned = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    packed = [zlib.compress(strip).translate(turned) for strip in strips()]

    np.testing.assert_array_equal(
        read_image(in_parts(packed, t259=8, t266=2, t278=16)).pixels, GRAY
    )


def of_pillow(compression: str) -> Callable[[bytes], bytes]:
    """A strip of rows of 64 bytes as libtiff packs it."""

    def pack(strip: bytes) -> bytes:
        picture = np.frombuffer(strip, np.uint8).reshape(-1, 64)
        packed = Image.open(io.BytesIO(written(picture, compression=compression)))
        [start], [length] = packed.tag_v2[273], packed.tag_v2[279]
        packed.fp.seek(start)
        return packed.fp.read(length)

    return pack


@pytest.mark.parametrize(
    ("compression", "pack"),
    [
        (1, bytes),
        (5, of_pillow("tiff_lzw")),
        (8, zlib.compress),
        (32773, of_pillow("packbits")),
        (32946, zlib.compress),
    ],
    ids=["none", "LZW", "deflate", "PackBits", "old deflate"],
)
@pytest.mark.parametrize("layout", ["strips", "tiles"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_tiff_with_a_part_that_is_not_all_there_is_refused(layout, compression, pack, index):
    parts = strips() if layout == "strips" else tiles()
    sides = {"t278": 16} if layout == "strips" else {"t322": 32, "t323": 32}
    packed = [pack(part) for part in parts]
    data = in_parts(packed, t259=compression, **sides)
    np.testing.assert_array_equal(read_image(data).pixels, GRAY)
    half = len(packed[index]) // 2

    for damaged_part in (packed[index][:half], packed[index][:2], b"", b"garbage!" * 9):
        packed[index] = damaged_part
        with pytest.raises(UnreadableImage, match=r"truncated|does not unpack"):
            read_image(in_parts(packed, t259=compression, **sides))


@pytest.mark.parametrize("picture", [GRAY, DEEP, COLOR], ids=["8", "16", "RGB"])
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_tiff_of_which_half_is_zeros_is_refused(picture, compression):
    data = bytearray(written(picture, compression=compression))
    tags = Image.open(io.BytesIO(data)).tag_v2
    [start], [length] = tags[273], tags[279]
    data[start + length // 2 : start + length] = bytes(length - length // 2)

    with pytest.raises(UnreadableImage, match="strip or tile 1 of 1 does not unpack"):
        read_image(bytes(data))


def test_a_tiff_that_lacks_a_strip_is_refused_by_their_number():
    with pytest.raises(UnreadableImage, match="2 strips or tiles, expected 3"):
        open_image(in_parts(strips()[:2], t278=16))


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


def of_16_bits(bits: tuple[int, int, int], header: int, alpha: int = 0) -> bytes:
    """A BMP of `COLOR` in so many bits of red, green and blue; header 0 is one without masks."""
    shifts = bits[1] + bits[2], bits[2], 0
    most = [(1 << count) - 1 for count in bits]
    values = sum(
        np.rint(COLOR[::-1, :, index] / 255 * most[index]).astype("<u2") << shifts[index]
        for index in range(3)
    )
    masks = [number << shift for number, shift in zip(most, shifts, strict=True)]
    behind = struct.pack("<4I", *masks, alpha).ljust(max(header, 56) - 40, b"\0")
    behind = behind[: {0: 0, 40: 12}.get(header, header - 40)]
    start, size = 54 + len(behind), values.nbytes
    data = b"BM" + struct.pack("<IIII", start + size, 0, start, header or 40)
    data += struct.pack("<iiHHIIiiII", 64, 40, 1, 16, 3 if header else 0, size, 0, 0, 0, 0)
    return data + behind + values.tobytes()


@pytest.mark.parametrize(
    ("bits", "header"),
    [((5, 5, 5), 0), *product([(5, 5, 5), (5, 6, 5)], [40, 52, 56, 108, 124])],
)
def test_a_bmp_of_16_bits_is_spread_from_black_to_white(bits, header):
    most = (1 << np.array(bits)) - 1

    pixels = read_image(of_16_bits(bits, header)).pixels

    np.testing.assert_array_equal(pixels, np.rint(np.rint(COLOR / 255 * most) * 255 / most))
    assert pixels.max() == 255


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (of_16_bits((4, 4, 4), 108), "masks f00 f0 f;"),
        (of_16_bits((5, 5, 5), 56, alpha=0x8000), "masks 7c00 3e0 1f and one for transparency;"),
    ],
)
def test_a_bmp_of_16_bits_and_other_masks_is_refused_by_name(data, found):
    with pytest.raises(UnsupportedImage, match=found):
        open_image(data)


@pytest.mark.parametrize(
    "data",
    [
        written(DEEP, compression="tiff_lzw"),
        written(COLOR, compression="tiff_adobe_deflate"),
        written(GRAY, compression="packbits"),
        written(COLOR),
        written(COLOR, "BMP"),
        of_16_bits((5, 6, 5), 108),
    ],
    ids=["LZW", "deflate", "PackBits", "plain", "BMP", "BMP 16"],
)
def test_damage_ends_in_a_picture_or_in_our_error_and_is_not_talked_about(data, capfd):
    for case in damaged(data, 150, seed=len(data)):
        try:
            pixels = read_image(case, max_megapixels=1).pixels
        except ImagingError:
            continue
        assert pixels.dtype == np.uint8
    assert capfd.readouterr().err == ""
