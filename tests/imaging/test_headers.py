"""What is told of a file beside its pixels: which instance it is, and why it cannot be read."""

import io
import os
from pathlib import Path

import pytest

from imaging.errors import ImagingError, InaccessibleFile
from imaging.reading import open_image, read_file
from tests.factories import make_dicom, make_film


def to_bytes(**attributes: object) -> bytes:
    stream = io.BytesIO()
    make_dicom(make_film(), **attributes).save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_the_uids_of_instance_series_and_study_are_told():
    data = to_bytes(SOPInstanceUID="1.2.3", SeriesInstanceUID="1.2.4", StudyInstanceUID="1.2.5")

    facts = open_image(data).facts

    assert (facts.sop_instance, facts.series, facts.study) == ("1.2.3", "1.2.4", "1.2.5")


@pytest.mark.filterwarnings("ignore:.*UI")
@pytest.mark.parametrize("uid", ["", "Doe^Jane", "=1+1", "1.02", "1..2", "1." * 33 + "1"])
def test_what_is_no_uid_is_not_told_as_one(uid: str):
    assert open_image(to_bytes(StudyInstanceUID=uid)).facts.study == ""


def test_an_object_that_is_no_picture_still_says_what_it_is():
    with pytest.raises(ImagingError) as caught:
        open_image(to_bytes(Modality="SR", PixelData=None, SeriesInstanceUID="1.2.4"))

    assert caught.value.facts
    assert (caught.value.facts.modality, caught.value.facts.series) == ("SR", "1.2.4")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(InaccessibleFile, match="a pipe, expected a regular file"):
        read_file(tmp_path / "pipe")


def test_a_file_that_is_not_there_says_so_without_its_name(tmp_path: Path):
    with pytest.raises(InaccessibleFile) as caught:
        read_file(tmp_path / "Doe^Jane.dcm")

    assert caught.value.problem == "cannot be opened: No such file or directory"


def test_every_error_is_of_a_kind_that_has_a_code():
    with pytest.raises(TypeError, match="of no kind"):
        ImagingError("something is wrong")

    assert all(kind("wrong").code for kind in ImagingError.__subclasses__())
