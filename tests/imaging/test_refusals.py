"""What can't be one still picture is refused by name, before anything is decoded."""

import io
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ImplicitVRLittleEndian

from imaging.errors import (
    FrameNotFound,
    ImageTooLarge,
    ImagingError,
    UnreadableImage,
    UnsupportedImage,
)
from imaging.reading import open_image, read_image
from tests.factories import (
    as_bytes,
    as_bytes_deflated,
    as_jpeg,
    as_png,
    make_color,
    make_dicom,
    make_film,
    png_chunk,
)

CANARY = "Canary^Patient"


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"", UnreadableImage, "empty file"),
        (bytes(500), UnreadableImage, "only zeros"),
        (b"hello, I am no picture", UnreadableImage, "not a picture of a known kind"),
        (b"GIF89a" + bytes(50), UnsupportedImage, "a GIF; expected DICOM, PNG, JPEG, TIFF or BMP"),
        (b"RIFF\0\0\0\0WEBPVP8 ", UnsupportedImage, "a WebP"),
        (b"II+\0" + bytes(50), UnsupportedImage, "a BigTIFF"),
        (b"%PDF-1.7", UnsupportedImage, "a PDF"),
        (b"PK\3\4zip", UnsupportedImage, "a ZIP"),
        (b"\0\0\0\x18ftypheic", UnsupportedImage, "a HEIF"),
    ],
)
def test_other_kinds_are_named(data, kind, words):
    with pytest.raises(kind, match=words):
        open_image(data)


def test_a_cine_loop_is_refused_until_a_frame_is_chosen():
    data = as_bytes(make_dicom(np.zeros((30, 4, 5), np.uint8), frames=30))
    file = open_image(data)

    assert file.facts.frames == 30
    with pytest.raises(UnsupportedImage, match="has 30 frames, expected one; choose with frame="):
        file.read()
    assert file.read(30).pixels.shape == (4, 5)


@pytest.mark.parametrize("frame", [0, -1, 31])
def test_a_frame_that_is_not_there_is_named(frame):
    data = as_bytes(make_dicom(np.zeros((30, 4, 5), np.uint8), frames=30))

    with pytest.raises(FrameNotFound, match=f"has 30 frames, there is no frame {frame}"):
        read_image(data, frame=frame)


@pytest.mark.parametrize("data", [as_png(make_film(bits=8)), as_bytes(make_dicom(make_film()))])
def test_frame_1_of_a_single_picture_is_fine(data):
    np.testing.assert_array_equal(read_image(data, frame=1).pixels, read_image(data).pixels)
    with pytest.raises(FrameNotFound, match="has 1 frame, there is no frame 2"):
        read_image(data, frame=2)


@pytest.mark.parametrize(
    ("sop_class", "words"),
    [
        ("1.2.840.10008.5.1.4.1.1.66.4", "a segmentation"),
        ("1.2.840.10008.5.1.4.1.1.30", "a parametric map"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "an RT dose"),
    ],
)
def test_pixels_that_are_no_picture_are_refused(sop_class, words):
    with pytest.raises(UnsupportedImage, match=words):
        open_image(as_bytes(make_dicom(make_film(), SOPClassUID=sop_class)))


def test_a_file_without_pixels_is_refused_with_its_kind():
    report = make_dicom(
        make_film(), PixelData=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR"
    )

    with pytest.raises(UnsupportedImage, match=r"without pixel data \(Basic Text SR Storage\)"):
        open_image(as_bytes(report))


@pytest.mark.parametrize(
    ("attributes", "kind", "words"),
    [
        ({"Rows": 0}, UnreadableImage, "48x0"),
        ({"Columns": None}, UnreadableImage, "0x64"),
        ({"BitsAllocated": 12}, UnsupportedImage, "12 bits allocated"),
        ({"BitsStored": 17}, UnreadableImage, "17 of 16 bits"),
        ({"BitsStored": 0}, UnreadableImage, "0 of 16 bits"),
        ({"SamplesPerPixel": 3}, UnreadableImage, "MONOCHROME2 with 3 samples"),
        ({"PixelRepresentation": 5}, UnreadableImage, "PixelRepresentation"),
        ({"PhotometricInterpretation": None}, UnreadableImage, "PhotometricInterpretation"),
        ({"Rows": 65}, UnreadableImage, "truncated: 6144 of 6240 bytes"),
        ({"Rows": 40000, "Columns": 40000}, ImageTooLarge, "1600 megapixels, at most 100"),
    ],
)
def test_headers_that_contradict_themselves_are_refused(attributes, kind, words):
    with pytest.raises(kind, match=words):
        read_image(as_bytes(make_dicom(make_film(), **attributes)))


@pytest.mark.parametrize(
    "data",
    [
        as_bytes(make_dicom(make_film(50, 60))),
        as_png(make_film(50, 60)),
        as_jpeg(make_color(50, 60)),
    ],
)
def test_the_limit_on_pixels_is_a_setting_and_holds_before_decoding(data):
    assert open_image(data, max_megapixels=0.003).facts.width == 60
    with pytest.raises(ImageTooLarge, match="60x50"):
        open_image(data, max_megapixels=0.0029)


def test_a_side_of_more_pixels_than_a_float_holds_is_too_large():
    dataset = make_dicom(make_film())
    for keyword in ("Rows", "Columns"):
        dataset[keyword] = DataElement(keyword, "FD", 1e300)

    with pytest.raises(ImageTooLarge, match="megapixels, at most 100"):
        open_image(as_bytes(dataset))


@pytest.mark.parametrize("preamble", [bytes(128) + b"DICM", b""])
@pytest.mark.parametrize("far", [0, 5000])
def test_a_small_file_cannot_inflate_without_end(preamble, far):
    data = as_bytes_deflated(make_dicom(make_film()))
    (length,) = struct.unpack_from("<I", data, 140)
    # so much before it says how it is packed
    before = b"\2\0\0\0OB\0\0" + struct.pack("<I", far) + bytes(far)
    meta = preamble + before + data[132 : 144 + length]
    bomb = zlib.compressobj(wbits=-15)
    element = b"\x09\0\x10\0OB\0\0" + struct.pack("<I", 50_000_000)
    packed = bomb.compress(element + bytes(50_000_000)) + bomb.flush()

    tracemalloc.start()
    with pytest.raises(ImagingError):
        open_image(meta + packed, max_megapixels=1)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 40_000_000


@pytest.mark.parametrize("packed", [as_bytes, as_bytes_deflated])
@pytest.mark.parametrize(
    ("undefined", "words"), [(True, "too many elements"), (False, "more than 1999 items")]
)
def test_a_small_file_cannot_become_objects_without_end(packed, undefined, words, monkeypatch):
    dataset = make_dicom(make_film(8, 8), BodyPartExamined=None)
    dataset.AnatomicRegionSequence = [Dataset() for _ in range(2000)]
    dataset["AnatomicRegionSequence"].is_undefined_length = undefined
    data = packed(dataset)
    assert open_image(data).facts.body_part == ""

    monkeypatch.setattr("imaging.dicom_header.FEW_ITEMS", 1999)
    for most in range(2000, 2005):  # wherever it ends, within an item or between two
        monkeypatch.setattr("imaging.dicom_header.MOST_READS", most)
        with pytest.raises(ImageTooLarge, match=words):
            open_image(data)


@pytest.mark.parametrize("keyword", ["WindowCenter", "NumberOfFrames", "BodyPartExamined"])
def test_an_attribute_of_very_many_values_is_refused_before_they_are_made(keyword):
    dataset = make_dicom(make_film(8, 8), syntax=ImplicitVRLittleEndian)
    dataset[keyword] = DataElement(keyword, "UN", b"1\\" * 1_000_000)
    data = as_bytes(dataset)

    tracemalloc.start()
    with pytest.raises(ImageTooLarge, match=f"{keyword} has 2000000 bytes"):
        read_image(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 20_000_000


def test_a_deflated_file_is_inflated_no_further_than_its_picture_reaches():
    film = make_film()
    dataset = make_dicom(film)
    dataset.add_new(0xFFFCFFFC, "OB", bytes(100_000_000))  # trailing padding, without end
    data = as_bytes_deflated(dataset)

    tracemalloc.start()
    picture = read_image(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 10_000_000
    np.testing.assert_array_equal(picture.pixels, read_image(as_bytes(make_dicom(film))).pixels)


def test_an_animated_png_is_refused_by_name():
    still = as_png(make_film(bits=8))
    control = png_chunk(b"acTL", bytes(8))
    after_header = 8 + 25

    with pytest.raises(UnsupportedImage, match="an animated PNG"):
        open_image(still[:after_header] + control + still[after_header:])


def test_unknown_and_video_syntaxes_are_refused():
    mpeg = "1.2.840.10008.1.2.4.100"
    video = as_bytes(make_dicom(make_film(), syntax=mpeg, encapsulated=[b"\0\0\1\xba" * 8]))
    unknown = as_bytes(make_dicom(make_film())).replace(b".10008.1.2.1\0", b".10008.9.9.9\0")

    with pytest.raises(UnsupportedImage, match="MPEG2"):
        read_image(video)
    with pytest.raises(UnsupportedImage, match="as JPEG XL Lossless, which no decoder"):
        read_image(video.replace(mpeg.encode(), b"1.2.840.10008.1.2.4.110"))
    with pytest.raises(UnsupportedImage, match="an unknown transfer syntax"):
        read_image(unknown)


def test_paths_that_cannot_be_read_do_not_appear_in_the_message(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, tmp_path / f"{CANARY}.dcm", pipe):
        with pytest.raises(UnreadableImage) as refusal:
            open_image(path)
        assert str(tmp_path) not in refusal.value.problem
        assert "Canary" not in refusal.value.problem


def test_a_path_and_its_bytes_give_the_same_picture(tmp_path):
    data = as_bytes(make_dicom(make_film()))
    path = tmp_path / "without.suffix"
    path.write_bytes(data)

    np.testing.assert_array_equal(read_image(path).pixels, read_image(data).pixels)


def test_nothing_about_the_patient_gets_out():
    identified = make_dicom(
        make_film(), PatientName=CANARY, PatientID=CANARY, InstitutionName=CANARY
    )
    data = as_bytes(identified)
    assert CANARY.encode() in data

    assert "Canary" not in repr(open_image(data).facts)
    for keyword in ("Rows", "BitsAllocated", "WindowWidth", "PhotometricInterpretation"):
        broken = pydicom.dcmread(io.BytesIO(data))
        broken.add_new(keyword, "LO", CANARY)
        for damaged in (as_bytes(broken), as_bytes(broken)[:-100]):
            with pytest.raises(ImagingError) as refusal:
                read_image(damaged)
            assert "CANARY" not in refusal.value.problem.upper()


@pytest.mark.parametrize(
    ("attributes", "view"),
    [
        ({"ViewPosition": " ll "}, "LL"),
        ({"ViewPosition": ""}, ""),
        ({"ViewPosition": "", "PatientOrientation": ["L", "F"]}, ""),
        ({"ViewPosition": "", "PatientOrientation": ["A", "F"]}, "LATERAL"),
        ({"ViewPosition": "", "PatientOrientation": ["P", "FL"]}, "LATERAL"),
        ({"ViewPosition": "", "PatientOrientation": ["L", "P"]}, ""),
        ({"ViewPosition": "", "PatientOrientation": ["A", "F"], "Modality": "MR"}, ""),
        ({"ViewPosition": "PA", "PatientOrientation": ["A", "F"]}, "PA"),
    ],
)
def test_a_lateral_view_is_known_by_its_orientation(attributes, view):
    assert open_image(as_bytes(make_dicom(make_film(), **attributes))).facts.view == view


@pytest.mark.parametrize(
    ("meaning", "view"),
    [("left lateral", "LATERAL"), ("postero-anterior", ""), ("left lateral decubitus", "")],
)
def test_a_lateral_view_is_known_by_its_code(meaning, view):
    code = pydicom.Dataset()
    code.CodeMeaning = meaning
    dataset = make_dicom(make_film(), ViewPosition=None, ViewCodeSequence=[code])

    assert open_image(as_bytes(dataset)).facts.view == view


@pytest.mark.parametrize("value", ["399173006", "R-10232"])
def test_a_lateral_view_is_known_by_its_code_in_any_language(value):
    code = pydicom.Dataset()
    code.CodeValue, code.CodeMeaning = value, "seitlich"
    dataset = make_dicom(make_film(), ViewPosition=None, ViewCodeSequence=[code])

    assert open_image(as_bytes(dataset)).facts.view == "LATERAL"


@pytest.mark.parametrize(
    ("stated", "value", "meaning", "body_part"),
    [
        (None, "72696002", "Knee", "KNEE"),
        (None, "72696002", "膝", "OTHER"),
        (None, "", "Knee of Doe, Jane", "KNEE"),
        ("CHEST_PA", "", "", "CHEST"),
        ("UPPER THORAX", "", "", "THORAX"),
        ("", "", "胸部CHEST", "CHEST"),
        ("", "T-D3000", "Brustkorb", "CHEST"),
        (None, codes.cid4031.Chest.value, "胸部", "CHEST"),
        (None, codes.cid4009.Chest.value, "Poitrine", "CHEST"),
        ("-", "T-D3000", "Brustkorb", "CHEST"),
        ("-", "", "", ""),
        ("HAND", "T-D3000", "Chest", "HAND"),
    ],
)
def test_a_body_part_is_known_by_its_code_where_it_is_not_stated(stated, value, meaning, body_part):
    code = pydicom.Dataset()
    code.CodeValue, code.CodeMeaning = value, meaning
    dataset = make_dicom(
        make_film(),
        SpecificCharacterSet="ISO_IR 192",
        BodyPartExamined=stated,
        AnatomicRegionSequence=[code],
    )

    assert open_image(as_bytes(dataset)).facts.body_part == body_part


def test_an_empty_modality_is_implied_by_the_sop_class():
    facts = open_image(
        as_bytes(make_dicom(make_film(), Modality="", BodyPartExamined=" chest"))
    ).facts

    assert (facts.modality, facts.body_part, facts.kind) == ("DX", "CHEST", "dicom")
    assert (facts.width, facts.height) == (48, 64)
