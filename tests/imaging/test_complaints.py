"""Damage that libjpeg tells nobody but stderr refuses a picture, and no log sees it."""

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
import pytest
from pydicom.uid import JPEGBaseline8Bit

from imaging import complaints
from imaging.errors import UnreadableImage
from imaging.reading import open_image, read_image
from tests.factories import (
    as_bytes,
    as_jpeg,
    make_color,
    make_dicom,
    make_film,
    png_chunk,
    raw_png,
)
from tests.imaging.dcmtk import dcmtk

COLOR, FILM = make_color(120, 160), make_film(120, 160, bits=8)
END = b"\xff\xd9"


def without_500_bytes(jpeg: bytes) -> bytes:
    middle = len(jpeg) * 2 // 3
    return jpeg[: middle - 500] + jpeg[middle:]


def cut(jpeg: bytes) -> bytes:
    return jpeg[: len(jpeg) * 2 // 3] + END


def as_dicom(jpeg: bytes) -> bytes:
    """A film of `FILM`'s size with another JPEG in it."""
    frame = jpeg + bytes(len(jpeg) % 2)
    return as_bytes(make_dicom(FILM, syntax=JPEGBaseline8Bit, encapsulated=[frame]))


@pytest.mark.parametrize("damage", [without_500_bytes, cut])
@pytest.mark.parametrize(
    ("jpeg", "wrap"),
    [(as_jpeg(COLOR), bytes), (as_jpeg(FILM), bytes), (as_jpeg(FILM), as_dicom)],
    ids=["RGB", "gray", "DICOM"],
)
def test_a_jpeg_that_lacks_a_part_of_its_scan_is_refused(jpeg, wrap, damage, capfd):
    file = open_image(wrap(damage(jpeg)))

    with pytest.raises(UnreadableImage, match=r"damaged.*: premature end of data segment"):
        file.read()
    assert capfd.readouterr().err == ""


def test_a_jpeg_that_goes_on_behind_a_gap_is_refused(capfd):
    bgr = cv2.cvtColor(COLOR, cv2.COLOR_RGB2BGR)
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_RST_INTERVAL, 4])[1].tobytes()
    fourth, sixth = b"\xff\xd3", b"\xff\xd5"
    read_image(jpeg)

    with pytest.raises(UnreadableImage, match="found marker 0xd5 instead of RST3"):
        read_image(jpeg.replace(fourth, sixth, 1))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("option", ["+e1", "+ee", "+es", "+ep"])
def test_a_film_whose_jpeg_gdcm_decodes_is_refused_too(option, tmp_path, capfd):
    data = dcmtk("dcmcjpeg", make_dicom(make_film(200, 300)), tmp_path, option)
    at = data.rindex(END)
    damaged = data[: at - 3000] + data[at - 2500 : at] + END + bytes(500) + data[at + 2 :]

    with pytest.raises(UnreadableImage, match=r"damaged pixel data \(JPEG\): (premature|bad)"):
        read_image(damaged)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("wrap", [bytes, as_dicom])
def test_bytes_too_many_at_the_end_of_a_scan_cost_no_pixel_and_no_word(wrap, capfd):
    sound = as_jpeg(FILM)

    pixels = read_image(wrap(sound.removesuffix(END) + b"\0\1\2" + END)).pixels

    np.testing.assert_array_equal(pixels, read_image(wrap(sound)).pixels)
    assert capfd.readouterr().err == ""


def test_nor_is_there_a_word_of_a_png_whose_pixels_are_damaged(capfd):
    header = struct.pack(">IIBBBBB", 64, 8, 8, 0, 0, 0, 0)
    rows = [b"\xff" * 64] * 8
    sound = raw_png(header, rows)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows))
    no_filter = zlib.compress(b"".join(b"\7" + row for row in rows))
    damaged = sound.replace(png_chunk(b"IDAT", packed), png_chunk(b"IDAT", no_filter))
    assert damaged != sound

    with pytest.raises(UnreadableImage, match="damaged PNG"):
        read_image(damaged)
    assert capfd.readouterr().err == ""


def test_only_the_damaged_ones_of_many_that_are_read_at_once_are_refused(capfd):
    sound = as_jpeg(COLOR)
    expected = read_image(sound).pixels

    def read(jpeg: bytes) -> bool:
        try:
            np.testing.assert_array_equal(read_image(jpeg).pixels, expected)
        except UnreadableImage:
            return False
        return True

    jpegs = [cut(sound) if number % 3 else sound for number in range(300)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, jpegs))

    assert found == [jpeg is sound for jpeg in jpegs]
    assert capfd.readouterr().err == ""


def test_a_fork_listens_for_itself_even_while_others_decode():
    jpeg = cut(as_jpeg(COLOR))
    reader, writer = os.pipe()

    def decode_in_a_fork() -> None:
        if not (child := os.fork()):
            try:
                read_image(jpeg)
            except UnreadableImage as error:
                os.write(writer, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)

    _, loss = complaints.listen(decode_in_a_fork)

    os.close(writer)
    with os.fdopen(reader) as told:
        assert "premature end" in told.read()
    assert loss == ""


def test_what_a_decoder_raises_is_raised_and_the_next_one_is_heard():
    with pytest.raises(ZeroDivisionError):
        complaints.listen(lambda: 1 / 0)

    with pytest.raises(UnreadableImage, match="premature end"):
        read_image(cut(as_jpeg(COLOR)))


def test_what_others_write_to_stderr_is_left_alone(capfd):
    complaints.listen(partial(os.write, 2, b"a log"))

    assert capfd.readouterr().err == "a log"
