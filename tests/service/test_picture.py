"""/picture, and which window a picture is told to be seen through."""

import cv2
import numpy as np
import pytest

from tests.factories import as_bytes, make_dicom, make_film
from tests.service.pictures import film, png, square

WINDOW = {"window_center": "900", "window_width": "500"}


def asked(client, data, path="/picture", **options):
    return client.post(path, files={"image": data}, data=options)


def twelve_bits() -> bytes:
    attributes = {"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA"}
    window = {"WindowCenter": 1800, "WindowWidth": 2300}
    return as_bytes(make_dicom(make_film(), bits_stored=12, **attributes, **window))


def test_a_picture_is_the_one_people_are_shown_beside_its_heat(client):
    for data, model in ((twelve_bits(), "chest"), (png(square(300, 500, 60, 420)), "skin")):
        options = WINDOW if model == "chest" else {}
        cold = asked(client, data, "/explain", model=model, opacity="0", **options)
        answer = asked(client, data, **options)

        assert answer.headers["Content-Type"] == "image/png"
        theirs, ours = (
            cv2.imdecode(np.frombuffer(one.content, np.uint8), cv2.IMREAD_COLOR)
            for one in (cold, answer)
        )
        free = slice(0, len(ours) // 2)  # the legend is in the lower half
        np.testing.assert_array_equal(ours[free], theirs[free])


def test_no_model_is_asked_for_a_picture(client):
    knee = film(square(200, 160, 20, 30), BodyPartExamined="KNEE")

    before = client.get("/metrics").text.count("care_predictions_total{")
    answer = asked(client, knee, max_side="64", format="webp")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/webp")
    assert client.get("/metrics").text.count("care_predictions_total{") == before
    assert asked(client, knee, model="chest").json()["error"]["code"] == "bad_option"


def test_a_window_beyond_the_files_own_shows_what_that_one_hides(client):
    pixels = np.repeat(np.arange(0, 4096, 16, dtype=np.uint16), 64).reshape(128, 128)
    narrow = {"WindowCenter": 3500, "WindowWidth": 500}
    data = as_bytes(make_dicom(pixels, bits_stored=12, **narrow))

    own, low = (
        cv2.imdecode(np.frombuffer(asked(client, data, **window).content, np.uint8), 0)
        for window in ({}, {"window_center": "512", "window_width": "1025"})
    )

    dark = slice(0, 30)
    assert len(np.unique(own[dark])) == 1
    assert len(np.unique(low[dark])) > 50


@pytest.mark.parametrize("output", ["json", "layers"])
def test_a_report_says_through_which_window_model_and_people_look(client, output):
    data = twelve_bits()
    own = {"center": 1800.0, "width": 2300.0, "source": "file", "inverted": False}

    plain = asked(client, data, "/explain", output=output).json()
    windowed = asked(client, data, "/explain", output=output, **WINDOW).json()

    assert plain["image"]["voi"] == plain["shown"] == windowed["image"]["voi"] == own
    chosen = {"center": 900.0, "width": 500.0, "source": "chosen"}
    assert windowed["shown"] == own | chosen
    assert asked(client, data, "/classify").json()["image"]["voi"] == own


def test_a_picture_answer_says_its_window_in_its_headers(client):
    for path in ("/picture", "/explain"):
        for options, told in (({}, ("1800", "2300")), (WINDOW, ("900", "500"))):
            headers = asked(client, twelve_bits(), path, **options).headers
            assert (headers["X-Care-Window-Center"], headers["X-Care-Window-Width"]) == told


def test_a_photograph_has_no_window(client):
    data = png(square(300, 500, 60, 420))

    report = asked(client, data, "/explain", model="skin", output="layers").json()

    assert report["image"]["voi"] is None
    assert report["shown"] is None
    assert "X-Care-Window-Center" not in asked(client, data).headers


def test_pixels_of_more_than_any_range_have_no_window_and_an_answer(client):
    pixels = np.zeros((64, 64), np.float64)
    pixels[8, 8], pixels[9, 9] = -1.7e308, 1.7e308
    data = as_bytes(make_dicom(pixels))

    answer = asked(client, data, "/explain", model="chest", output="layers", force="true")

    assert answer.status_code < 500
