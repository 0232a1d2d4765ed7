"""Embedded ICC profiles → sRGB, against color science computed by hand."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom.pixels import convert_color_space
from pydicom.uid import RLELossless

from imaging import icc
from imaging.isolation import DecoderPool
from imaging.reading import open_image, read_image
from tests.factories import (
    as_bytes,
    as_jpeg,
    as_png,
    make_color,
    make_dicom,
    make_film,
    png_chunk,
    with_profile,
)
from tests.imaging.color_science import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    Space,
    as_srgb,
    matrix_profile,
    table_profile,
)
from tests.imaging.test_photo import STORED

COLOR, FILM = make_color(40, 64), make_film(40, 64, bits=8)
P3 = matrix_profile(DISPLAY_P3)


def jpeg(pixels: np.ndarray, profile: bytes) -> bytes:
    data = as_jpeg(pixels, quality=100)
    return with_profile(data, profile, parts=3) if profile else data


def png(pixels: np.ndarray, profile: bytes) -> bytes:
    data = as_png(pixels)
    chunk = png_chunk(b"iCCP", b"Doe^Jane\0\0" + zlib.compress(profile))
    return data[:33] + chunk * bool(profile) + data[33:]


def png_16(pixels: np.ndarray, profile: bytes) -> bytes:
    return png(pixels.astype(np.uint16) * 257, profile)


def tiff(pixels: np.ndarray, profile: bytes) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "TIFF", icc_profile=profile)
    return stream.getvalue()


def dicom(pixels: np.ndarray, profile: bytes) -> bytes:
    return as_bytes(make_dicom(pixels, ICCProfile=profile or None))


def dicom_ybr(pixels: np.ndarray, profile: bytes) -> bytes:
    ybr = convert_color_space(pixels.copy(), "RGB", "YBR_FULL")
    return as_bytes(make_dicom(ybr, photometric="YBR_FULL", ICCProfile=profile or None))


def dicom_rle(pixels: np.ndarray, profile: bytes) -> bytes:
    dataset = make_dicom(pixels, ICCProfile=profile or None)
    dataset.compress(RLELossless)
    return as_bytes(dataset)


COLOR_KINDS = (jpeg, png, png_16, tiff, dicom, dicom_ybr, dicom_rle)
GRAY_KINDS = (jpeg, png, png_16, tiff, dicom)
Kind = Callable[[np.ndarray, bytes], bytes]


def assert_converted(converted: np.ndarray, stored: np.ndarray, space: Space, levels: float = 1):
    expected = as_srgb(stored, space)
    assert np.abs(expected - stored).max() > 5  # there is something to convert
    np.testing.assert_allclose(converted, expected, atol=levels)


@pytest.mark.parametrize("space", [DISPLAY_P3, ADOBE_RGB], ids=["P3", "Adobe"])
@pytest.mark.parametrize("write", COLOR_KINDS)
def test_colors_are_converted_to_srgb(write: Kind, space: Space):
    stored = read_image(write(COLOR, b"")).pixels

    file = open_image(write(COLOR, matrix_profile(space)))

    assert file.fragile
    assert_converted(file.read().pixels, stored, space)


def every_fifth_level() -> np.ndarray:
    levels = np.arange(0, 256, 5, np.uint8)
    return np.stack(np.meshgrid(*[levels] * 3), axis=-1).reshape(len(levels), -1, 3)


@pytest.mark.parametrize("space", [DISPLAY_P3, ADOBE_RGB], ids=["P3", "Adobe"])
@pytest.mark.parametrize("table", [0, 1024])
def test_all_colors_are_within_a_level_of_what_they_are(space: Space, table):
    every = every_fifth_level()
    profile = matrix_profile(space, table=table)

    assert_converted(read_image(png(every, profile)).pixels, every, space)


@pytest.mark.parametrize("space", [DISPLAY_P3, ADOBE_RGB], ids=["P3", "Adobe"])
def test_a_profile_of_tables_alone_is_followed_closely(space: Space):
    every = every_fifth_level()

    pixels = read_image(png(every, table_profile(space))).pixels

    # littlecms makes one coarser table of all, which is off where it clips what sRGB lacks
    off = np.abs(pixels - as_srgb(every, space))
    assert off.mean() < 0.5
    assert np.quantile(off, 0.99) <= 2
    assert off.max() < 12


def test_no_level_of_gray_is_moved_by_a_space_that_differs_in_its_primaries_alone():
    grays = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)

    np.testing.assert_allclose(read_image(png(grays, P3)).pixels, grays, atol=1)


@pytest.mark.parametrize("table", [0, 256, 1024])
@pytest.mark.parametrize("write", COLOR_KINDS)
def test_a_profile_of_srgb_changes_nothing(write: Kind, table):
    plain, described = (
        open_image(write(COLOR, profile)) for profile in (b"", matrix_profile(SRGB, table=table))
    )

    assert described.fragile == plain.fragile
    np.testing.assert_array_equal(described.read().pixels, plain.read().pixels)


def test_the_srgb_profile_of_littlecms_is_known():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    assert icc.other_than_srgb(profile) is None


def test_a_gamma_of_22_is_not_taken_for_srgb():
    space = Space(SRGB.primaries, gamma=563 / 256)

    assert_converted(read_image(png(COLOR, matrix_profile(space))).pixels, COLOR, space)


@pytest.mark.parametrize("profile", [P3, matrix_profile(ADOBE_RGB, kind=b"GRAY")])
@pytest.mark.parametrize("write", GRAY_KINDS)
def test_gray_pictures_are_taken_as_they_are(write: Kind, profile):
    pixels = read_image(write(FILM, profile)).pixels

    np.testing.assert_array_equal(pixels, read_image(write(FILM, b"")).pixels)


def test_a_gray_film_stays_in_this_process_whatever_its_profile():
    assert not open_image(dicom(FILM, P3)).fragile


def test_a_palette_has_its_colors_converted():
    image = Image.fromarray(COLOR).quantize(16)
    plain, described = io.BytesIO(), io.BytesIO()
    image.save(plain, "PNG")
    image.save(described, "PNG", icc_profile=P3)

    stored = read_image(plain.getvalue()).pixels

    assert_converted(read_image(described.getvalue()).pixels, stored, DISPLAY_P3)


def test_a_dicom_palette_has_its_colors_converted():
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16)
    palette: dict[str, object] = {}
    for name, step in (("Red", 1), ("Green", 3), ("Blue", 7)):
        entries = (np.arange(256) * step % 256).astype(np.uint8)
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        palette[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    plain, described = (
        as_bytes(make_dicom(codes, photometric="PALETTE COLOR", ICCProfile=profile, **palette))
        for profile in (None, P3)
    )

    assert_converted(read_image(described).pixels, read_image(plain).pixels, DISPLAY_P3)


def test_a_transparent_color_is_converted_before_it_is_laid_over_black():
    picture = np.dstack([COLOR, np.full(COLOR.shape[:2], 128, np.uint8)])

    pixels = read_image(png(picture, P3)).pixels

    np.testing.assert_allclose(pixels, as_srgb(COLOR, DISPLAY_P3) * 128 / 255, atol=1)


@pytest.mark.parametrize("orientation", STORED)
def test_a_described_photo_is_brought_upright_as_well(orientation):
    lying = as_jpeg(COLOR, orientation=orientation)

    pixels = read_image(with_profile(lying, P3)).pixels

    assert_converted(pixels, read_image(lying).pixels, DISPLAY_P3)


def test_a_large_picture_is_converted_as_a_small_one(monkeypatch):
    whole = icc.to_srgb(COLOR, P3)

    monkeypatch.setattr(icc, "PIXELS_AT_ONCE", 150)

    np.testing.assert_array_equal(icc.to_srgb(COLOR, P3), whole)


def with_tag(profile: bytes, name: bytes, start: int, size: int) -> bytes:
    """A profile, one of whose tags says it is elsewhere."""
    at = profile.index(name)
    return profile[: at + 4] + struct.pack(">II", start, size) + profile[at + 12 :]


IGNORED = {
    "empty": b"\0",
    "text": b"Doe^Jane " * 100,
    "cut": P3[:200],
    "of no class": P3[:12] + b"link" + P3[16:],
    "of gray": matrix_profile(ADOBE_RGB, kind=b"GRAY"),
    "of CMYK": matrix_profile(ADOBE_RGB, kind=b"CMYK"),
    "no matrix": P3.replace(b"rXYZ", b"rABC"),
    "a tag outside": with_tag(P3, b"rTRC", 0xFFFFFF00, 0xFFFF),
    "many tags": P3[:128] + b"\xff\xff\xff\xff" + P3[132:],
    "too large": P3 + bytes(icc.MOST_BYTES),
}


@pytest.mark.parametrize("profile", IGNORED.values(), ids=IGNORED)
@pytest.mark.parametrize("write", [png, tiff, dicom])
def test_a_profile_that_makes_no_sense_is_ignored_without_a_word(capfd, caplog, write, profile):
    pixels = read_image(write(COLOR, profile)).pixels

    np.testing.assert_array_equal(pixels, read_image(write(COLOR, b"")).pixels)
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"ICC_PROFILE\0\2\3", b"ICC_PROFILE\0\1\3"),
        lambda data: data.replace(b"ICC_PROFILE\0\2\3", b"ICC_PROFILE\0\2\4"),
        lambda data: data.replace(b"ICC_PROFILE\0\2\3", b"ICC_PROFILX\0\2\3"),
    ],
    ids=["twice", "of another number", "missing"],
)
def test_a_jpeg_without_all_parts_of_its_profile_has_none(damage):
    sound = jpeg(COLOR, P3)
    data = damage(sound)

    assert data != sound
    np.testing.assert_array_equal(read_image(data).pixels, read_image(jpeg(COLOR, b"")).pixels)


def test_the_parts_of_a_profile_come_in_any_order():
    assert icc.of_jpeg([b"\2\3b", b"\3\3c", b"\1\3a"]) == b"abc"


@pytest.mark.parametrize("packed", [b"", b"\0", b"no zlib", zlib.compress(P3)[:-200]])
def test_a_png_whose_profile_does_not_inflate_has_none(packed):
    data = as_png(COLOR)
    chunk = png_chunk(b"iCCP", b"name\0\0" + packed)

    np.testing.assert_array_equal(read_image(data[:33] + chunk + data[33:]).pixels, COLOR)


def test_a_profile_that_inflates_without_end_takes_no_memory():
    bomb = png_chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(1 << 28)))

    assert len(icc.of_png(bomb[8:-4])) <= icc.MOST_BYTES + 1


def test_hostile_numbers_in_a_profile_are_no_error():
    rng = np.random.default_rng(0)
    for _ in range(300):
        copy = np.frombuffer(P3, np.uint8).copy()
        where = rng.integers(128, len(P3), rng.choice([1, 4, 16]))
        copy[where] = rng.choice([0, 1, 127, 128, 255], where.size)
        icc.other_than_srgb(copy.tobytes())
        assert icc.to_srgb(COLOR, copy.tobytes()).shape == COLOR.shape


def test_colors_are_converted_in_a_decoder_of_its_own_and_nowhere_else():
    data = png(COLOR, P3)
    file = open_image(data)
    pool = DecoderPool(1, timeout=120)

    there = pool.guard(file, data).read()
    pool.close()

    np.testing.assert_array_equal(there.pixels, file.read().pixels)


def test_looking_at_a_profile_loads_no_native_code_for_it(tmp_path):
    (tmp_path / "picture.png").write_bytes(png(COLOR, P3))
    code = (
        "import sys; from pathlib import Path; from imaging.reading import open_image;"
        "open_image(Path(sys.argv[1])); assert 'PIL.ImageCms' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code, tmp_path / "picture.png"], check=True)


def test_a_profile_in_the_codestream_is_not_the_one_of_a_dicom_file():
    frame = with_profile(cv2.imencode(".jpg", COLOR)[1].tobytes(), P3)
    syntax = "1.2.840.10008.1.2.4.50"
    plain, described = (
        make_dicom(COLOR, syntax=syntax, photometric="YBR_FULL_422", encapsulated=[one])
        for one in (cv2.imencode(".jpg", COLOR)[1].tobytes(), frame)
    )

    np.testing.assert_array_equal(
        read_image(as_bytes(described)).pixels, read_image(as_bytes(plain)).pixels
    )
