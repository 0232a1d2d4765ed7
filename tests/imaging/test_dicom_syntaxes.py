"""Every transfer syntax shows the same picture as the uncompressed file."""

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from imaging.dicom_header import INFLATED_AT_ONCE
from imaging.errors import UnreadableImage
from imaging.reading import open_image, read_image
from tests.factories import (
    DIGITAL_X_RAY,
    as_bytes,
    as_bytes_deflated,
    as_bytes_without_preamble,
    make_color,
    make_dicom,
    make_film,
)
from tests.imaging.dcmtk import dcmtk, decoded_by_dcmtk
from tests.imaging.oracle import displayed

NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
WINDOW = {"WindowCenter": 1800, "WindowWidth": 2300}
# GDCM's encoders, which pydicom would take first, bring the interpreter down for odd sizes.
ENCODERS = {RLELossless: "pylibjpeg", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}
PICTURES = {
    "gray 8": (make_film(33, 47, bits=8), {}),
    "gray 12": (make_film(33, 47, bits=12), {"bits_stored": 12, **WINDOW}),
    "gray 16": (make_film(33, 47, bits=16), {}),
    "signed 16": ((make_film(33, 47, bits=16).astype(np.int32) - 32768).astype(np.int16), {}),
    "signed 13": (
        (make_film(33, 47, bits=13).astype(np.int32) - 4096).astype(np.int16),
        {"bits_stored": 13},
    ),
    "color": (make_color(33, 47), {}),
}


@pytest.fixture(params=PICTURES)
def dataset(request):
    pixels, attributes = PICTURES[request.param]
    return make_dicom(pixels, **attributes)


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("preamble", [True, False])
def test_native_syntaxes_with_and_without_preamble(dataset, syntax, preamble):
    expected = read_image(as_bytes(dataset)).pixels
    if syntax == ExplicitVRBigEndian:
        order = np.dtype(f"u{dataset.BitsAllocated // 8}")
        words = np.frombuffer(dataset.PixelData, order)
        dataset.PixelData = words.byteswap().tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"

    data = as_bytes(dataset) if preamble else as_bytes_without_preamble(dataset)

    np.testing.assert_array_equal(read_image(data).pixels, expected)


def test_a_file_whose_vrs_are_not_as_it_says_shows_the_same_picture(dataset):
    written = {}
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        dataset.file_meta.TransferSyntaxUID = syntax
        file = as_bytes(dataset)
        body = file.index(b"\x08\0\x16\0")
        written[syntax] = file[:body], file[body:]
    (implicit, as_implicit), (explicit, as_explicit) = written.values()
    expected = read_image(explicit + as_explicit).pixels

    np.testing.assert_array_equal(read_image(implicit + as_explicit).pixels, expected)
    np.testing.assert_array_equal(read_image(explicit + as_implicit).pixels, expected)


def test_a_deflated_file_is_inflated(dataset):
    expected = read_image(as_bytes(dataset)).pixels

    np.testing.assert_array_equal(read_image(as_bytes_deflated(dataset)).pixels, expected)


def test_a_deflated_file_is_known_by_its_meta_header_alone(dataset):
    expected = read_image(as_bytes(dataset)).pixels

    dataset.StudyDescription = "1.2.840.10008.1.2.1.99"
    dataset.add_new("AvailableTransferSyntaxUID", "UI", "1.2.840.10008.1.2.1.99")

    np.testing.assert_array_equal(read_image(as_bytes(dataset)).pixels, expected)
    np.testing.assert_array_equal(read_image(as_bytes_deflated(dataset)).pixels, expected)
    np.testing.assert_array_equal(read_image(as_bytes_deflated(dataset)[132:]).pixels, expected)


def test_a_deflated_file_may_say_its_sop_class_in_the_meta_header(dataset):
    dataset.SOPClassUID = ""

    assert open_image(as_bytes_deflated(dataset)).facts.sop_class == DIGITAL_X_RAY


@pytest.mark.timeout(120)
@pytest.mark.parametrize("behind", [b"", b"\0", b"\0\0"])
def test_a_deflated_film_of_several_steps_ends_with_its_stream(behind):
    # an odd stream is padded with a zero (PS3.5 A.5)
    film = make_film(1000, 800)
    assert film.nbytes > INFLATED_AT_ONCE

    picture = read_image(as_bytes_deflated(make_dicom(film)) + behind)

    np.testing.assert_array_equal(picture.pixels, read_image(as_bytes(make_dicom(film))).pixels)


def test_a_deflated_film_is_inflated_to_its_end_wherever_a_step_ends(monkeypatch):
    data = as_bytes_deflated(make_dicom(np.zeros((66, 66), np.uint8)))

    for step in range(4400, 5000):  # zlib may have read everything and yet have more to say
        monkeypatch.setattr("imaging.dicom_header.INFLATED_AT_ONCE", step)
        assert not read_image(data).pixels.any()


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_lossless_syntaxes_change_nothing(dataset, syntax):
    expected = read_image(as_bytes(dataset)).pixels

    dataset.compress(syntax, encoding_plugin=ENCODERS[syntax])

    np.testing.assert_array_equal(read_image(as_bytes(dataset)).pixels, expected)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless, JPEG2000Lossless, "+e1"])
@pytest.mark.parametrize("kind", [np.uint16, np.int16])
@pytest.mark.parametrize("high_bit", [11, 13, 15])
def test_the_valid_bits_are_kept_wherever_they_are(high_bit, kind, syntax, tmp_path):
    film = (make_film(33, 47).astype(int) - 2048 * (kind is np.int16)).astype(kind)
    expected = read_image(as_bytes(make_dicom(film, **WINDOW))).pixels
    valid = 0xFFF << (high_bit - 11)
    others = np.random.default_rng(0).integers(0, 1 << 16, film.shape) & ~valid
    dataset = make_dicom((film.astype(int) << (high_bit - 11) & valid | others).astype(kind))
    if syntax in ENCODERS:
        dataset.compress(syntax, encoding_plugin=ENCODERS[syntax])
    elif syntax:
        dataset = pydicom.dcmread(io.BytesIO(dcmtk("dcmcjpeg", dataset, tmp_path, syntax)))
    dataset.BitsStored, dataset.HighBit = 12, high_bit
    dataset.WindowCenter, dataset.WindowWidth = WINDOW.values()

    np.testing.assert_array_equal(read_image(as_bytes(dataset)).pixels, expected)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("kind", [np.uint16, np.int16])
@pytest.mark.parametrize(("said", "high_bit"), [(12, 11), (12, 15), (16, 15)])
def test_a_codestream_of_the_valid_bits_alone_is_understood_by_its_own_depth(
    said, high_bit, kind, syntax
):
    film = (make_film(33, 47).astype(int) - 2048 * (kind is np.int16)).astype(kind)
    expected = read_image(as_bytes(make_dicom(film, **WINDOW))).pixels
    dataset = make_dicom(film, bits_stored=12, **WINDOW)
    dataset.compress(syntax, encoding_plugin=ENCODERS[syntax])

    dataset.BitsStored, dataset.HighBit = said, high_bit

    np.testing.assert_array_equal(read_image(as_bytes(dataset)).pixels, expected)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_color_is_as_bright_as_its_codestream_is_deep_whatever_the_header_says(syntax):
    dataset = make_dicom(make_color(33, 47).astype(np.uint16) * 16, bits_stored=12)
    expected = read_image(as_bytes(dataset)).pixels
    dataset.compress(syntax, encoding_plugin=ENCODERS[syntax])

    dataset.BitsStored, dataset.HighBit = 16, 15

    np.testing.assert_array_equal(read_image(as_bytes(dataset)).pixels, expected)


@pytest.mark.parametrize("tool", ["dcmcjpeg", "dcmcjpls"])
def test_color_of_12_bits_in_16_is_as_bright_as_it_was(tool, tmp_path):
    dataset = make_dicom(make_color(33, 47).astype(np.uint16) * 16, bits_stored=12)

    data = dcmtk(tool, dataset, tmp_path, "+e1" if tool == "dcmcjpeg" else "+el")

    np.testing.assert_array_equal(read_image(data).pixels, read_image(as_bytes(dataset)).pixels)


def test_lossy_jpeg_2000_looks_as_pydicom_shows_it(dataset):
    dataset.compress(JPEG2000, j2k_cr=[4], encoding_plugin="pylibjpeg")

    assert np.abs(read_image(as_bytes(dataset)).pixels - displayed(dataset)).max() <= 1


@pytest.mark.parametrize("option", ["+e1", "+el"])
def test_lossless_jpeg_by_dcmtk_changes_nothing(dataset, option, tmp_path):
    expected = read_image(as_bytes(dataset)).pixels

    data = dcmtk("dcmcjpeg", dataset, tmp_path, option)

    np.testing.assert_array_equal(read_image(data).pixels, expected)


@pytest.mark.parametrize(("option", "bits"), [("+eb", 8), ("+ee", 12), ("+es", 12), ("+ep", 12)])
def test_lossy_jpeg_of_every_process_decodes_as_dcmtk_decodes_it(option, bits, tmp_path):
    film = make_film(65, 90, bits=bits)
    data = dcmtk("dcmcjpeg", make_dicom(film, bits_stored=bits), tmp_path, option)
    dataset = pydicom.dcmread(io.BytesIO(data))
    stored = decoded_by_dcmtk(data, tmp_path)
    attributes = {
        keyword: dataset[keyword].value
        for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept")
        if keyword in dataset
    }

    expected = displayed(make_dicom(stored, bits_stored=dataset.BitsStored, **attributes))

    assert np.abs(read_image(data).pixels - expected).max() <= 1


@pytest.mark.parametrize("colors", ["+cy", "+cr"])
@pytest.mark.parametrize("sampling", ["+s4", "+s2"])
def test_lossy_color_jpeg_keeps_its_colors(colors, sampling, tmp_path):
    picture = make_color(64, 80)

    data = dcmtk("dcmcjpeg", make_dicom(picture), tmp_path, "+eb", colors, sampling, "+q", "95")

    difference = np.abs(read_image(data).pixels.astype(int) - picture)
    assert np.median(difference) <= 3


def test_rle_and_jpeg_ls_by_dcmtk_change_nothing(dataset, tmp_path):
    expected = read_image(as_bytes(dataset)).pixels

    for tool in ("dcmcrle", "dcmcjpls"):
        data = dcmtk(tool, dataset, tmp_path)
        np.testing.assert_array_equal(read_image(data).pixels, expected)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize(
    "pixels", [make_film(35, 33, bits=8), make_film(35, 33), make_color(35, 33)]
)
def test_the_chosen_frame_is_the_one_decoded(pixels, syntax):
    frames = np.stack([np.roll(pixels, shift, axis=0) for shift in range(4)])
    dataset = make_dicom(frames, frames=4)
    if syntax:
        dataset.compress(syntax, encoding_plugin=ENCODERS[syntax])
    data = as_bytes(dataset)

    assert open_image(data).facts.frames == 4
    for frame in range(1, 5):
        single = as_bytes(make_dicom(frames[frame - 1]))
        np.testing.assert_array_equal(
            read_image(data, frame=frame).pixels, read_image(single).pixels
        )


def big_endian_words(frames: np.ndarray) -> Dataset:
    """Frames of 8 bits as big endian OW: words of 16 bits, their bytes swapped (PS3.5 8.1.1)."""
    dataset = make_dicom(frames, frames=len(frames), syntax=ExplicitVRBigEndian)
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize(("rows", "columns"), [(4, 2), (3, 3)])
def test_each_frame_of_big_endian_words_of_two_pixels_is_decoded(frames, rows, columns):
    pixels = np.random.default_rng(0).integers(0, 256, (frames, rows, columns), np.uint8)
    data = as_bytes(big_endian_words(pixels))

    for frame in range(1, frames + 1):
        single = as_bytes(make_dicom(pixels[frame - 1]))
        np.testing.assert_array_equal(
            read_image(data, frame=frame).pixels, read_image(single).pixels
        )


def test_half_a_word_of_big_endian_pixels_is_a_truncated_file():
    data = as_bytes(big_endian_words(np.zeros((1, 3, 3), np.uint8)))

    with pytest.raises(UnreadableImage, match="truncated: 9 of 10 bytes"):
        read_image(data[:-1])


def test_a_compressed_picture_of_another_size_than_the_header_says_is_refused():
    for syntax in (JPEG2000Lossless, JPEGLSLossless):
        dataset = make_dicom(make_film())
        dataset.compress(syntax, encoding_plugin=ENCODERS[syntax])
        dataset.Rows = 63

        with pytest.raises(UnreadableImage, match="header says 48x63"):
            read_image(as_bytes(dataset))
