"""What is taken home from the page: the overlay, the answer, the Secondary Capture."""

import hashlib
import io
import json

import cv2
import numpy as np
from pydicom import dcmread

from tests import patience
from tests.service.page.conftest import SKIN, answered
from tests.service.pictures import film, square

FILM = film(
    square(200, 160, 20, 30),
    PatientName="Canary^Birdie",
    StudyInstanceUID="1.2.826.0.1.3680043.8.498.5",
    SeriesInstanceUID="1.2.826.0.1.3680043.8.498.6",
)
LARGEST = 2048


def saved(page, kind: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.click(f"#save-{kind}")
    return download.value.suggested_filename, download.value.path().read_bytes()


def explained(server, data: bytes, path: str = "explain", **options: object) -> np.ndarray:
    """The picture that the service answers with to the same."""
    options |= {"max_side": LARGEST}
    answer = patience.post(f"{server.url}/{path}", files={"image": data}, data=options)
    return pixels(answer.content)


def pixels(data: bytes) -> np.ndarray:
    """What a PNG shows; the same pixels may be packed into other bytes another time."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def test_the_overlay_is_the_services_own_with_its_scale(page, server):
    answered(page)

    name, content = saved(page, "overlay")

    assert name == f"care-skin-square-{digest(SKIN)}.png"
    expected = explained(server, SKIN, model="skin", target="square", opacity=0.4)
    np.testing.assert_array_equal(pixels(content), expected)


def test_the_overlay_has_the_style_opacity_and_window_that_are_shown(page, server):
    answered(page, FILM, model="chest")
    page.fill("#center", "200")
    page.fill("#width", "300")
    page.keyboard.press("Enter")
    window = {"window_center": 200, "window_width": 300}

    page.locator("#opacity").fill("75")
    _, faded = saved(page, "overlay")
    page.locator("#styles label", has_text="Contour").click()
    _, lines = saved(page, "overlay")

    shown = [
        explained(server, FILM, opacity=0.75, **window),
        explained(server, FILM, style="contour", **window),
        explained(server, FILM),
        explained(server, FILM, **window),
    ]
    np.testing.assert_array_equal(pixels(faded), shown[0])
    np.testing.assert_array_equal(pixels(lines), shown[1])
    assert len({one.tobytes() for one in shown}) == 4


def test_without_an_overlay_the_picture_is_saved_as_it_is_shown(page, server):
    answered(page, FILM, model="chest")
    page.fill("#width", "60")
    page.keyboard.press("Enter")
    center = page.input_value("#center")
    page.locator("#styles label", has_text="Off").click()

    name, content = saved(page, "overlay")

    window = {"window_center": center, "window_width": 60}
    assert name == f"care-chest-{digest(FILM)}.png"
    np.testing.assert_array_equal(pixels(content), explained(server, FILM, "picture", **window))


def test_the_overlay_is_of_the_class_chosen(page, server):
    answered(page)
    page.locator(".bar", has_text="melanoma").click()

    name, content = saved(page, "overlay")

    assert name == f"care-skin-melanoma-{digest(SKIN)}.png"
    expected = explained(server, SKIN, model="skin", target="melanoma")
    np.testing.assert_array_equal(pixels(content), expected)


def test_the_report_is_the_answer_and_the_window_in_force_without_pictures(page):
    with page.expect_response("**/explain") as answer:
        answered(page, FILM, model="chest")
    told = answer.value.json()
    page.fill("#width", "60")
    page.keyboard.press("Enter")

    name, content = saved(page, "report")

    report = json.loads(content)
    assert name == f"care-chest-{digest(FILM)}.json"
    assert report["shown"] == told["shown"] | {"width": 60, "source": "chosen"}
    assert report["evidence"] == [
        {"label": layer["label"], "peak": layer["peak"]} for layer in told["layers"]
    ]
    same = {key: report[key] for key in report.keys() - {"shown", "evidence"}}
    assert same == {key: told[key] for key in told.keys() - {"shown", "picture", "layers"}}
    assert b"Canary" not in content


def test_a_secondary_capture_is_saved_of_dicom_and_said_to_name_the_patient(page):
    answered(page, FILM, SKIN, model="chest")
    assert "names its patient" in page.inner_text("#dicom-hint")

    name, content = saved(page, "dicom")

    capture = dcmread(io.BytesIO(content))
    assert name == f"care-chest-{capture.DerivationDescription.split()[2]}-{digest(FILM)}.dcm"
    assert capture.StudyInstanceUID == "1.2.826.0.1.3680043.8.498.5"
    assert capture.PatientName == "Canary^Birdie"
    page.keyboard.press("n")
    page.select_option("#model", "skin")
    page.wait_for_selector("#answer:visible")
    assert page.locator("#save-dicom").is_hidden()
    assert page.locator("#dicom-hint").is_hidden()


def test_what_cannot_be_saved_is_said_in_words(page):
    answered(page, film(square(200, 160, 20, 30)), model="chest")

    page.click("#save-dicom")

    page.wait_for_selector("#save-problem:visible")
    assert "StudyInstanceUID" in page.inner_text("#save-problem")
