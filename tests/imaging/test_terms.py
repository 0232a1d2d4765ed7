"""What a header states is told in words of the standard, and in no others."""

import pydicom
import pytest
from pydicom.sr.codedict import codes

from imaging import terms
from imaging.reading import open_image
from tests.factories import as_bytes, make_dicom, make_film


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("name", ["Doe^Jane", "DOE JANE", "DOE", "JANE_DOE", "19471103", "Müller"])
def test_a_name_is_told_in_none_of_the_attributes(name):
    code = pydicom.Dataset()
    code.CodeValue, code.CodeMeaning = "99", f"Knee of {name}"
    for attributes in (
        dict.fromkeys(("Modality", "BodyPartExamined", "ViewPosition", "SOPClassUID"), name),
        {"BodyPartExamined": f"CHEST {name}"},
        {"BodyPartExamined": None, "AnatomicRegionSequence": [code]},
        {"ViewPosition": None, "ViewCodeSequence": [code]},
        {"ViewPosition": f"PA {name}"},
    ):
        dataset = make_dicom(make_film(), SpecificCharacterSet="ISO_IR 192", **attributes)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID

        facts = open_image(as_bytes(dataset)).facts

        assert name.upper() not in repr(facts).upper()


@pytest.mark.parametrize("modality", ["CR", "DX", "MR", "RG", "SEG", ""])
def test_a_modality_of_the_standard_is_told(modality):
    assert terms.modality(modality) == modality


def test_every_modality_of_the_standard_is_known():
    listed = {code.value for code in codes.cid33.concepts.values()}

    assert len(listed) > 70
    assert listed <= terms.MODALITIES


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ("CHEST", "CHEST"),
        ("KNEE OF JANE DOE, BORN 1947-11-03", "KNEE"),
        ("NECK_CHEST", "NECK CHEST"),
        ("CHEST, PA CHEST", "CHEST"),
        ("胸部CHEST", "CHEST"),
        ("膝", "OTHER"),
        ("КОЛЕНО", "OTHER"),
        ("1947", "OTHER"),
        ("DOE", "OTHER"),
        ("-", ""),
        ("", ""),
    ],
)
def test_body_parts_are_told_by_the_words_that_are_known(stated, told):
    assert terms.body_part(stated) == told


@pytest.mark.parametrize(
    "view", ["PA", "AP", "LL", "LATERAL", "AP/PA", "PA CHEST", "LEFT LATERAL", "RIGHT_OBLIQUE", ""]
)
def test_a_view_of_known_words_is_told_as_it_is(view):
    assert terms.view(view) == view
