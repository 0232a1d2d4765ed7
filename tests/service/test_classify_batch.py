"""Several pictures in one request: one item each, and a bad one costs only itself."""

import numpy as np
import pytest

from service.log import JsonFormatter
from service.metrics import ERRORS
from service.reading_room import ReadingRoom
from tests.service.pictures import film, png, square

GOOD = png(square(100, 120, 20, 30))
DARK = png(np.zeros((80, 90), np.uint8))
PATIENT = "Canary^Patient"


def batch(client, pictures, **options):
    files = [("image", (f"{index}.bin", data)) for index, data in enumerate(pictures)]
    return client.post("/classify_batch", files=files, data=options)


def test_each_item_is_the_answer_that_the_picture_gets_alone(client):
    answer = batch(client, [GOOD, DARK, GOOD], model="skin")

    items = answer.json()["items"]
    assert answer.status_code == 200
    assert [item["status"] for item in items] == [200] * 3
    for data, item in zip([GOOD, DARK, GOOD], items, strict=True):
        alone = client.post("/classify", files={"image": data}, data={"model": "skin"}).json()
        assert item["result"] | {"request_id": ""} == alone | {"request_id": ""}
        assert item["error"] is None


def test_one_bad_picture_of_sixteen_costs_exactly_one(client):
    pictures = [GOOD] * 16
    pictures[7] = GOOD[:60]

    items = batch(client, pictures, model="skin").json()["items"]

    assert [item["status"] for item in items] == [200] * 7 + [422] + [200] * 8
    assert items[7]["error"]["code"] == "unreadable"
    assert items[7]["result"] is None


def test_a_mistake_of_ours_costs_its_own_picture_and_is_in_the_log(client, monkeypatch, caplog):
    read = ReadingRoom.read

    def stumble(room, data, options):
        if data == DARK:
            raise RuntimeError(PATIENT)
        return read(room, data, options)

    monkeypatch.setattr(ReadingRoom, "read", stumble)
    mistakes = ERRORS.labels(code="internal_error")._value
    before = mistakes.get()

    answer = batch(client, [GOOD, DARK, GOOD], model="skin")

    items = answer.json()["items"]
    assert [item["status"] for item in items] == [200, 500, 200]
    assert items[1]["error"]["code"] == "internal_error"
    assert items[1]["error"]["request_id"] == answer.headers["X-Request-ID"]
    [record] = [one for one in caplog.records if one.exc_info]
    line = JsonFormatter().format(record)
    assert "in stumble" in line
    assert "RuntimeError" in line
    assert PATIENT not in line
    assert answer.headers["X-Request-ID"] in line
    assert mistakes.get() == before + 1


def test_bad_pictures_stand_beside_good_ones_with_the_codes_they_have_alone(client):
    chest = film(square(200, 160, 20, 30))
    knee = film(square(200, 160, 20, 30), BodyPartExamined="KNEE")

    answer = batch(client, [chest, knee, GOOD, b"hello", b"", b"%PDF-1.7"])

    items = answer.json()["items"]
    assert [item["status"] for item in items] == [200, 400, 400, 422, 400, 415]
    assert [item["error"]["code"] for item in items[1:]] == [
        *("model_required", "model_required", "unreadable", "bad_request", "unsupported")
    ]
    assert all(
        item["error"]["request_id"] == answer.headers["X-Request-ID"]
        for item in items
        if item["error"]
    )


@pytest.mark.parametrize(
    ("pictures", "options", "status", "code"),
    [
        ([], {"model": "skin"}, 400, "bad_request"),
        ([GOOD], {"model": "skin", "frame": "x"}, 400, "bad_option"),
        ([GOOD], {"model": "skin", "target": "square"}, 400, "bad_option"),
    ],
    ids=["no picture", "bad option", "option of another endpoint"],
)
def test_what_is_wrong_with_the_whole_form_refuses_it_whole(
    client, pictures, options, status, code
):
    answer = batch(client, pictures, **options)

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


def test_more_pictures_than_allowed_are_refused(serve_here, models_folder):
    client = serve_here(models_folder, max_batch=3)

    assert batch(client, [GOOD] * 3, model="skin").status_code == 200
    answer = batch(client, [GOOD] * 4, model="skin")
    assert answer.status_code == 400
    assert "at most 3" in answer.json()["error"]["message"]


def test_an_unknown_model_is_named_in_each_item(client):
    items = batch(client, [GOOD, GOOD], model="brain").json()["items"]

    assert [item["status"] for item in items] == [404, 404]
    assert {item["error"]["code"] for item in items} == {"model_not_found"}
