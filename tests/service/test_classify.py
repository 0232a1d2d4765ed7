import hashlib
import json

import pytest

from models.card import NOTICE
from tests.service.pictures import film, png, square


def classify(client, data, **options):
    return client.post("/classify", files={"image": ("name.bin", data)}, data=options)


def test_the_answer_names_the_model_the_picture_and_every_label(client, picture, models_folder):
    answer = classify(client, picture, model="skin")

    card = json.loads((models_folder / "skin" / "card.json").read_text())
    assert answer.status_code == 200
    report = answer.json()
    assert report["model"] == {
        key: card[key] for key in ("name", "version", "sha256", "license", "use")
    }
    assert report["image"]["kind"] == "png"
    assert (report["image"]["width"], report["image"]["height"]) == (500, 300)
    assert report["image"]["sha256"] == hashlib.sha256(picture).hexdigest()
    assert {entry["label"] for entry in report["predictions"]} == set(card["labels"])
    assert report["notice"] == NOTICE
    assert report["forced"] is False
    assert report["request_id"] == answer.headers["X-Request-ID"]


def test_predictions_come_highest_first_with_their_operating_points(client, picture):
    predictions = classify(client, picture, model="skin").json()["predictions"]

    probabilities = [entry["probability"] for entry in predictions]
    assert predictions[0]["label"] == "square"
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert all(entry["operating_point"] == 0.5 for entry in predictions)
    assert [entry["found"] for entry in predictions] == [True, False, False]


def test_a_chest_film_finds_its_model_by_itself(client):
    answer = classify(client, film(square(200, 160, 20, 30)))

    assert answer.status_code == 200
    assert answer.json()["model"]["name"] == "chest"
    assert answer.json()["image"]["modality"] == "DX"


def test_a_film_without_body_part_finds_its_model_too(client):
    answer = classify(client, film(square(200, 160, 20, 30), BodyPartExamined=""))

    assert answer.json()["model"]["name"] == "chest"


@pytest.mark.parametrize(
    "data",
    [
        png(square(200, 160, 20, 30)),
        film(square(200, 160, 20, 30), Modality="MR"),
        film(square(200, 160, 20, 30), BodyPartExamined="KNEE"),
    ],
    ids=["png", "mr", "knee"],
)
def test_a_picture_that_names_no_model_gets_the_list(client, data):
    answer = classify(client, data)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "model_required"
    assert "chest, skin" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("attributes", "found", "expected"),
    [
        ({"Modality": "MR"}, "MR", "CR or DX"),
        ({"BodyPartExamined": "KNEE"}, "KNEE", "CHEST"),
        ({"ViewPosition": "LL"}, "LL", "AP or PA"),
    ],
)
def test_a_film_that_contradicts_the_model_is_refused(client, attributes, found, expected):
    answer = classify(client, film(square(200, 160, 20, 30), **attributes), model="chest")

    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "not_suitable"
    assert found in answer.json()["error"]["message"]
    assert expected in answer.json()["error"]["message"]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("force", ["false", "true"])
@pytest.mark.parametrize("keyword", ["Modality", "BodyPartExamined", "ViewPosition", "SOPClassUID"])
def test_a_name_where_none_belongs_is_in_no_answer(client, keyword, force):
    misused = film(square(200, 160, 20, 30), **{keyword: "Canary^Birdie"})

    answer = classify(client, misused, model="chest", force=force)

    assert "canary" not in answer.text.lower()
    if keyword != "SOPClassUID":
        assert answer.status_code == (200 if force == "true" else 422)
        assert "is none of the known ones, expected " in answer.text


def test_a_lateral_film_finds_its_model_and_is_refused_by_it(client):
    lateral = film(square(200, 160, 20, 30), ViewPosition="LL")

    answer = classify(client, lateral)

    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "not_suitable"
    assert classify(client, lateral, force="true").json()["overridden"]


def test_force_overrides_and_is_recorded(client):
    knee = film(square(200, 160, 20, 30), BodyPartExamined="KNEE")

    for yes in ("true", "True", "1"):
        report = classify(client, knee, model="chest", force=yes).json()
        assert report["forced"] is True
    assert "KNEE" in report["overridden"]


def test_force_that_overrides_nothing_is_not_recorded(client):
    report = classify(client, film(square(200, 160, 20, 30)), model="chest", force="1").json()

    assert report["forced"] is False
    assert report["overridden"] is None


def test_monochrome1_and_monochrome2_twins_get_the_same_answer(client):
    pixels = square(201, 163, 20, 30)
    one, two = (
        classify(client, film(pixels, photometric=name)).json()
        for name in ("MONOCHROME1", "MONOCHROME2")
    )

    assert one["predictions"] == two["predictions"]
    assert one["predictions"][0]["label"] == "square"


def test_a_frame_can_be_picked(client):
    frames = film(square(64, 64, 0, 0), NumberOfFrames=1)

    assert classify(client, frames, frame="1").json()["image"]["frame"] == 1
    beyond = classify(client, frames, frame="2")
    assert beyond.status_code == 400
    assert beyond.json()["error"]["code"] == "bad_option"


def test_what_is_answered_is_what_is_counted(client, picture, grown, models_folder):
    report = classify(client, picture, model="skin").json()

    one = {"model": "skin"}
    assert grown("care_predictions_total", **one, label=report["predictions"][0]["label"]) == 1
    for entry in report["predictions"]:
        scores = grown("care_scores_sum", **one, label=entry["label"])
        assert scores == pytest.approx(entry["probability"], abs=1e-6)
        assert grown("care_scores_count", **one, label=entry["label"]) == 1
    assert grown("care_batch_size_sum", **one) == grown("care_batch_size_count", **one) == 1
    assert grown("care_request_seconds_count", route="/classify") == 1
    card = json.loads((models_folder / "skin" / "card.json").read_text())
    told = f'model="skin",sha256="{card["sha256"]}",version="1.0.0"'
    assert f"care_model_info{{{told}}} 1.0" in client.get("/metrics").text


def test_the_models_on_offer_are_listed(client, models_folder):
    card = json.loads((models_folder / "chest" / "card.json").read_text())

    models = client.get("/models").json()["models"]

    assert [entry["name"] for entry in models] == ["chest", "skin"]
    assert models[0] == {
        key: card[key] for key in ("name", "labels", "version", "sha256", "license", "use")
    }


def test_answers_are_described_by_openapi(client):
    document = client.get("/openapi.json").json()

    form = document["paths"]["/explain"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert form["schema"]["required"] == ["image"]
    assert set(form["schema"]["properties"]) == {
        *("image", "model", "frame", "window", "force"),
        *("target", "output", "format", "style", "opacity", "colormap", "max_side"),
        *("window_center", "window_width"),
    }
