"""The card: read strictly, and what it accepts."""

import json

import pytest

from imaging.errors import UnsuitableImage
from imaging.image import Facts
from models.card import Accepts, ModelCard
from models.errors import BrokenModel
from tests.models_factory import square_model

CHEST = Accepts(modalities=("CR", "DX"), body_parts=("CHEST", "THORAX"), views=("AP", "PA"))
SKIN = Accepts(modalities=("XC",), sop_classes=("1.2.840.10008.5.1.4.1.1.77.1.4",))


def film(**attributes: str) -> Facts:
    return Facts(kind="dicom", width=10, height=10, **attributes)


@pytest.fixture
def entries(tmp_path) -> dict:
    return json.loads((square_model(tmp_path) / "card.json").read_text())


def test_a_card_is_read_as_it_was_written(tmp_path):
    path = square_model(tmp_path, accepts=CHEST) / "card.json"

    card = ModelCard.load(path)

    assert card.to_json() == path.read_text()
    assert card.accepts == CHEST


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lables": []}, "unknown entry lables"),
        ({"labels": "a, b"}, "labels must be a list of strings"),
        ({"labels": ["square"]}, "at least two different labels"),
        ({"labels": ["dark", "dark", "square"]}, "each label once"),
        ({"version": 1}, "version must be str"),
        ({"temperature": 0}, "temperature above 0"),
        ({"temperature": float("nan")}, "temperature above 0"),
        ({"temperature": True}, "temperature must be float"),
        ({"operating_points": {"dark": 0.5}}, "operating point for each label"),
        ({"operating_points": {"dark": 0.5, "square": 50}}, "operating points from 0 to 1"),
        ({"operating_points": {"dark": 0.5, "square": "high"}}, "must be an object of numbers"),
        ({"accepts": {"modality": ["CR"]}}, "unknown entry modality"),
        (
            {"accepts": {"modalities": ["X-RAY"]}},
            "modalities has 'X-RAY', expected one of imaging/terms.py",
        ),
        ({"accepts": {"body_parts": ["chest"]}}, "body_parts has 'chest'"),
        ({"accepts": {"views": ["OTHER"]}}, "views has 'OTHER'"),
        ({"preprocessing": {"size": 224, "fit": "crop", "color": "rgb"}}, "squash or pad"),
        ({"preprocessing": {"size": 224.5, "fit": "pad", "color": "rgb"}}, "size must be int"),
        ({"preprocessing": {"size": 224, "fit": "pad"}}, "missing color"),
        ({"training": []}, "training must be an object"),
    ],
)
def test_a_card_with_a_wrong_entry_is_refused_by_name(entries, change, words):
    with pytest.raises(BrokenModel, match=words):
        ModelCard.from_json(json.dumps(entries | change))


@pytest.mark.parametrize("name", ["name", "labels", "license", "accepts", "operating_points"])
def test_a_card_without_an_entry_is_refused(entries, name):
    del entries[name]

    with pytest.raises(BrokenModel, match=f"missing {name}$"):
        ModelCard.from_json(json.dumps(entries))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_file_that_is_no_card_is_a_broken_model(tmp_path, content):
    (tmp_path / "card.json").write_bytes(content)

    with pytest.raises(BrokenModel, match=r"card\.json"):
        ModelCard.load(tmp_path / "card.json")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (film(modality="CT", body_part="CHEST"), "modality is CT, expected CR or DX"),
        (film(modality="MR"), "modality is MR"),
        (film(modality="DX", body_part="KNEE"), "body part is KNEE, expected CHEST or THORAX"),
        (film(modality="OTHER"), "modality is none of the known ones, expected CR or DX"),
        (film(body_part="OTHER"), "body part is none of the known ones, expected CHEST or THORAX"),
        (film(view="OTHER"), "view is none of the known ones, expected AP or PA"),
        (film(modality="DX", body_part="CHEST", view="LL"), "view is LL, expected AP or PA"),
        (film(view="PA LATERAL"), "view is PA LATERAL, expected AP or PA"),
        (film(view="AP KNEE"), "view is AP KNEE, expected AP or PA"),
    ],
)
def test_a_header_that_contradicts_says_found_and_expected(facts, words):
    with pytest.raises(UnsuitableImage, match=words):
        CHEST.check(facts)


@pytest.mark.parametrize(
    "facts",
    [
        film(),
        film(modality="CR"),
        film(modality="DX", body_part="CHEST", view="PA"),
        film(modality="DX", body_part="SHOULDER THORAX"),
        *[film(view=view) for view in ("AP ERECT", "PA CHEST", "AP/PA", "PORTABLE", "AP_SUPINE")],
        film(view="POSTEROANTERIOR"),
        Facts(kind="png", width=10, height=10),
    ],
)
def test_a_header_that_is_silent_contradicts_nothing(facts):
    CHEST.check(facts)


def test_a_model_is_claimed_by_modality_or_sop_class_and_never_by_silence():
    assert CHEST.claims(film(modality="CR"))
    assert SKIN.claims(film(modality="OT", sop_class=SKIN.sop_classes[0]))
    assert not CHEST.claims(film())
    assert not SKIN.claims(film(modality="CR"))


@pytest.mark.parametrize(
    ("probability", "found"), [(0.5, True), (0.4999996, True), (0.4999994, False)]
)
def test_what_is_found_is_judged_by_the_number_that_is_published(tmp_path, probability, found):
    card = ModelCard.load(square_model(tmp_path) / "card.json")
    assert card.operating_points["square"] == 0.5
    assert card.found("square", probability) is found
