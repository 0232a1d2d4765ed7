"""The overlay as DICOM: in the same study, the same each time, accepted by others."""

import io
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import highdicom
import httpx
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from imaging.reading import read_image
from models.card import NOTICE
from tests import patience
from tests.factories import as_bytes, as_bytes_deflated, make_dicom
from tests.models_factory import square_model
from tests.server import free_port
from tests.service.pictures import film, png, square

STUDY = {
    "PatientName": "Müller^Käthe",
    "PatientID": "4711",
    "PatientBirthDate": "19500101",
    "PatientSex": "F",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.77",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.78",
    "SOPInstanceUID": "1.2.826.0.1.3680043.8.498.79",
    "StudyDate": "20200101",
    "StudyTime": "120000",
    "StudyID": "S1",
    "AccessionNumber": "A1",
    "ReferringPhysicianName": "Who^Doc",
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientOrientation": ["L", "F"],
}
FILM = film(square(300, 240, 20, 30), **STUDY)


def capture(client, data=FILM, **options) -> bytes:
    answer = client.post("/explain", files={"image": data}, data={"output": "dicom", **options})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/dicom"
    return answer.content


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def test_it_belongs_to_the_same_patient_and_study_and_names_its_source(client):
    made = read(capture(client))

    for keyword in STUDY.keys() - {"SeriesInstanceUID", "SOPInstanceUID", "SpecificCharacterSet"}:
        assert made[keyword].value == STUDY[keyword]
    assert made.SeriesInstanceUID != STUDY["SeriesInstanceUID"]
    assert made.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == STUDY["SOPInstanceUID"]
    equipment = made.ContributingEquipmentSequence[0]
    assert (equipment.Manufacturer, equipment.ManufacturerModelName) == ("CARE", "chest")
    assert equipment.SoftwareVersions == "1.0.0"
    assert len(equipment.DeviceSerialNumber) == 64
    assert equipment.ContributionDescription == NOTICE
    assert made.SeriesNumber > 999  # beyond those that scanners number


def test_its_pixels_are_those_of_the_overlay(client):
    overlay = client.post("/explain", files={"image": FILM}).content

    image = highdicom.Image.from_dataset(read(capture(client)))

    shown = image.get_frame(1, apply_icc_profile=False)
    np.testing.assert_array_equal(shown, read_image(overlay).pixels)


def test_the_same_request_gives_the_same_file_and_another_another(client):
    files = [
        read(capture(client, **options))
        for options in (
            *({}, {"target": "dark"}, {"target": ["dark", "square"]}, {"style": "contour"}),
            *({"max_side": "200"}, {"opacity": "0.7"}, {"colormap": "hot"}),
            {"window_center": "99", "window_width": "50"},
            {"window_center": "98", "window_width": "50"},
            {"window_center": "99", "window_width": "51"},
        )
    ]

    assert capture(client) == capture(client)
    assert len({made.SOPInstanceUID for made in files}) == len(files)
    assert len({made.SeriesInstanceUID for made in files}) == 1
    other = film(square(300, 240, 20, 30), **STUDY | {"SOPInstanceUID": "1.2.3"})
    assert read(capture(client, other)).SeriesInstanceUID != files[0].SeriesInstanceUID


def test_it_says_nowhere_when_it_was_made_or_the_same_request_would_give_another_file(client):
    made = read(capture(client))

    times = {one.keyword for one in made.iterall() if one.VR in ("DA", "TM", "DT")}
    assert times == {"PatientBirthDate", "StudyDate", "StudyTime"}


def test_it_says_which_labels_it_explains_and_by_which_model(client):
    made = read(capture(client, target=["dark", "square"]))

    assert made.DerivationDescription == "Grad-CAM of dark, square by chest"


def test_a_model_of_any_name_is_told_in_one_value_of_its_length(serve_here, tmp_path):
    square_model(tmp_path, name := "chest\\and more-" * 6)
    client = serve_here(tmp_path)

    made = read(capture(client, model=name))

    told = name.replace("\\", "/")[:64]
    assert made.ManufacturerModelName == told
    assert made.SeriesDescription == f"CARE {told}"[:64]


def test_it_names_the_frame_that_it_shows(client):
    frames = np.stack([square(64, 64, 0, 0), square(64, 64, 9, 9), square(64, 64, 3, 3)])
    several = as_bytes(make_dicom(frames, frames=3, **STUDY))

    second, third = (read(capture(client, several, frame=frame)) for frame in ("2", "3"))
    [reference] = second.SourceImageSequence
    [alone] = read(capture(client)).SourceImageSequence

    assert reference.ReferencedFrameNumber == 2
    assert "ReferencedFrameNumber" not in alone
    assert second.SOPInstanceUID != third.SOPInstanceUID


def test_labels_have_their_numbers_in_the_series_and_the_series_is_the_models_own(client):
    made = {
        (model, target): read(capture(client, model=model, target=target, force="true"))
        for model, target in (("chest", "dark"), ("chest", "square"), ("skin", "melanoma"))
    }

    numbers = {key: one.InstanceNumber for key, one in made.items()}
    assert numbers == {("chest", "dark"): 1, ("chest", "square"): 2, ("skin", "melanoma"): 2}
    series = {key: one.SeriesInstanceUID for key, one in made.items()}
    assert series["chest", "dark"] == series["chest", "square"] != series["skin", "melanoma"]


def test_the_same_label_of_another_model_is_another_instance(client):
    made = [
        read(capture(client, model=model, target="square", force="true"))
        for model in ("chest", "skin")
    ]

    assert made[0].SOPInstanceUID != made[1].SOPInstanceUID


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("BurnedInAnnotation", "YES"),
        ("LossyImageCompression", "01"),
        ("LossyImageCompressionRatio", 8),
        ("LossyImageCompressionMethod", "ISO_10918_1"),
        ("BodyPartExamined", "CHEST"),
        ("ImageLaterality", "L"),
        ("PatientOrientation", ["A", "F"]),
    ],
)
def test_what_stays_true_of_the_picture_is_said_again(client, keyword, value):
    made = read(capture(client, film(square(300, 240, 20, 30), **STUDY | {keyword: value})))

    assert made[keyword].value == value


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({"BodyPartExamined": "HIP"}, ""),  # may have one that nobody said
        ({"BodyPartExamined": ""}, ""),
        ({"BodyPartExamined": "CHEST"}, None),  # has none
        ({"BodyPartExamined": "HIP", "Laterality": "R"}, "R"),
        ({"BodyPartExamined": "HIP", "ImageLaterality": "L"}, None),
    ],
    ids=str,
)
def test_a_side_is_asked_for_only_where_there_may_be_one(client, changes, side):
    data = film(square(300, 240, 20, 30), **STUDY | changes)

    made = read(capture(client, data, model="chest", force="true"))

    assert (made.Laterality or "" if "Laterality" in made else None) == side


def test_a_film_of_a_retired_class_has_its_answer_too(client):
    retired = "1.2.840.10008.5.1.4.1.1.6"
    data = film(square(300, 240, 20, 30), **STUDY | {"SOPClassUID": retired})

    made = read(capture(client, data))

    assert made.PatientName == STUDY["PatientName"]
    assert made.SourceImageSequence[0].ReferencedSOPClassUID == retired


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize(
    ("characters", "text"),
    [
        ("ISO_IR 100", "Thorax geröntgt"),
        ("ISO_IR 144", "Грудь"),
        ("GB18030", "胸部"),
        (["", "ISO 2022 IR 87"], "胸部"),
        ("ISO_IR 192", "胸部"),
    ],
    ids=["Latin", "Cyrillic", "GB18030", "ISO 2022", "UTF-8"],
)
def test_text_in_sequences_is_utf_8_whatever_it_was(client, characters, text, deflated):
    code, qualifier, other = Dataset(), Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", text
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = text, "DNS"
    other.PatientID, other.IssuerOfPatientIDQualifiersSequence = "22", [qualifier]
    data = film(
        square(300, 240, 20, 30),
        **STUDY | {"SpecificCharacterSet": characters, "PatientName": "Kaethe"},
        ProcedureCodeSequence=[code],
        OtherPatientIDsSequence=[other],
    )

    made = capture(client, as_bytes_deflated(read(data)) if deflated else data)

    assert made.count(text.encode()) == 2
    assert read(made).ProcedureCodeSequence[0].CodeMeaning == text


@pytest.mark.filterwarnings("ignore:Failed to decode")
def test_text_in_a_sequence_that_is_broken_does_not_cost_the_answer(client):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "Thorax"
    utf_8 = STUDY | {"SpecificCharacterSet": "ISO_IR 192"}
    data = film(square(300, 240, 20, 30), **utf_8, ProcedureCodeSequence=[code])

    made = capture(client, data.replace(b"Thorax", b"Thor\xe4x"))

    assert read(made).ProcedureCodeSequence[0].CodeMeaning == "Thor\ufffdx"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"BodyPartExamined": ""},
        {"BodyPartExamined": "", "ImageLaterality": "L"},
        {"BodyPartExamined": "LUNG"},
        {"BodyPartExamined": "HIP"},
        {"BodyPartExamined": "BREAST", "Laterality": "R"},
        {"BodyPartExamined": "ABDOMEN"},
        {"LossyImageCompression": "01", "LossyImageCompressionRatio": 8},
        {"PatientName": "", "StudyDate": "", "ReferringPhysicianName": ""},
    ],
    ids=str,
)
def test_a_validator_has_nothing_to_say_against_it(client, tmp_path, changes):
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy of dicom3tools is not installed")
    path = tmp_path / "capture.dcm"
    data = film(square(300, 240, 20, 30), **STUDY | changes)
    path.write_bytes(capture(client, data, model="chest", force="true"))

    said = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)

    assert [line for line in said.stderr.splitlines() if line.startswith("Error")] == []
    assert said.returncode == 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png(square(100, 100, 10, 10)), "answers to DICOM files, this is a png"),
        (film(square(100, 100, 10, 10)), "refers to a file with SOPInstanceUID"),
    ],
    ids=["PNG", "DICOM without a study"],
)
def test_what_belongs_to_no_study_is_refused(client, data, words):
    options = {"model": "chest", "output": "dicom"}

    answer = client.post("/explain", files={"image": data}, data=options)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_option"
    assert words in answer.json()["error"]["message"]


@pytest.mark.filterwarnings("ignore")
def test_a_header_that_makes_no_sense_is_refused_and_quoted_nowhere(client, caplog, capfd):
    odd = STUDY | {"PatientName": "Canary^Birdie=\\^", "StudyDate": "20200101", "PatientSex": "F"}
    data = film(square(100, 100, 10, 10), **odd).replace(b"20200101", b"Canary!!")

    answer = client.post("/explain", files={"image": data}, data={"output": "dicom"})

    assert answer.status_code in (200, 422)
    said = capfd.readouterr()
    assert "Canary" not in caplog.text + said.out + said.err + str(answer.headers)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Iterator[str]:
    """An Orthanc on this machine alone, with DICOMweb."""
    plugin = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    if not (shutil.which("Orthanc") and plugin.exists()):
        pytest.skip("orthanc and orthanc-dicomweb are not installed")
    folder = tmp_path_factory.mktemp("orthanc")
    port = free_port()
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(plugin)],
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            ["Orthanc", folder / "settings.json"], cwd=folder, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}/dicom-web"
    try:
        deadline = time.monotonic() + patience.SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                patience.get(f"{url}/studies").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(patience.SECONDS)


def test_an_archive_stores_it_and_gives_it_back(client, archive):
    data = capture(client)
    made = read(data)
    kind = 'multipart/related; type="application/dicom"; boundary=edge'
    body = b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--edge--\r\n"
    for _ in range(2):  # once more changes nothing: it is the same instance
        stored = patience.post(f"{archive}/studies", content=body, headers={"Content-Type": kind})
        assert stored.status_code == 200, stored.text

    where = f"{archive}/studies/{made.StudyInstanceUID}"
    listed = patience.get(f"{where}/instances", headers={"Accept": "application/dicom+json"}).json()
    assert [one["00080018"]["Value"] for one in listed] == [[made.SOPInstanceUID]]
    answer = patience.get(
        f"{where}/series/{made.SeriesInstanceUID}/instances/{made.SOPInstanceUID}",
        headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
    )
    start = answer.content.index(b"\r\n\r\n") + 4
    back = read(answer.content[start:])
    assert back.PixelData == made.PixelData
    assert back.PatientName == STUDY["PatientName"]
