"""The page, used in a headless browser as a person would use it."""

import re
import shutil

import pytest

from tests.service.pictures import film, png, square

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                "--disable-sync",
            ],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, server):
    """The page; afterwards it must have asked nobody else and complained of nothing."""
    opened = browser.new_page()
    requests, complaints = [], []
    opened.on("request", lambda request: requests.append(request.url))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console",
        lambda message: (
            complaints.append(message.text)
            # The browser reports refused uploads here by itself; the page says them in words.
            if message.type in ("error", "warning") and "status of 4" not in message.text
            else None
        ),
    )
    opened.goto(server.url)
    opened.wait_for_selector("#model option[value=skin]", state="attached")
    yield opened
    opened.close()
    assert all(url.startswith((server.url, "data:", "blob:")) for url in requests)
    assert complaints == []


SKIN = png(square(300, 500, 60, 420))


def choose_file(page, data=SKIN, name="lesion.png"):
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})


def test_a_chosen_file_shows_its_picture_heat_and_bars(page):
    page.select_option("#model", "skin")
    choose_file(page)

    page.wait_for_selector("#answer:visible")
    size = page.eval_on_selector("#picture", "image => [image.naturalWidth, image.naturalHeight]")
    assert size == [500, 300]
    page.wait_for_function("document.querySelector('#heat').width === 320")
    assert page.locator(".bar").count() == 3
    assert page.locator(".bar .tick").count() == 3
    assert "square" in page.locator(".bar").first.inner_text()
    assert page.locator(".found").count() == 1
    assert "evidence for square" in page.inner_text("#evidence")


def test_the_heat_covers_the_picture_exactly(page):
    page.select_option("#model", "skin")
    choose_file(page)
    page.wait_for_selector("#answer:visible")

    assert page.locator("#heat").bounding_box() == page.locator("#picture").bounding_box()


def test_the_slider_fades_the_heat_without_a_request(page):
    page.select_option("#model", "skin")
    choose_file(page)
    page.wait_for_selector("#answer:visible")
    asked = []
    page.on("request", lambda request: asked.append(request.url))

    for value, opacity in ((0, "0"), (85, "0.85")):
        page.locator("#opacity").fill(str(value))
        assert page.eval_on_selector("#heat", "image => image.style.opacity") == opacity
        assert page.inner_text("#opacity-value") == f"{value} %"
    assert not [url for url in asked if url.startswith("http")]


def test_another_class_can_be_explained(page):
    page.select_option("#model", "skin")
    choose_file(page)
    page.wait_for_selector("#answer:visible")

    page.locator(".bar", has_text="melanoma").click()

    assert "no positive evidence for melanoma" in page.inner_text("#evidence")
    assert page.locator("#heat").is_hidden()
    page.keyboard.press("ArrowUp")
    assert "nevus" in page.inner_text("#evidence")


def test_a_dropped_dicom_film_finds_its_model(page):
    data = list(film(square(200, 160, 20, 30)))
    transfer = page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "film.dcm"));
            return transfer;
        }""",
        data,
    )

    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})

    page.wait_for_selector("#answer:visible")
    assert "chest 1.0.0" in page.inner_text("#facts")
    assert "DX CHEST PA" in page.inner_text("#facts")


def test_a_picture_without_model_is_answered_in_words_and_then_by_choosing_one(page):
    choose_file(page)
    page.wait_for_selector("#error:visible")
    assert "Please choose a model" in page.inner_text("#error")

    page.select_option("#model", "skin")

    page.wait_for_selector("#answer:visible")
    assert page.locator("#error").is_hidden()


def test_a_broken_file_is_answered_in_words(page):
    page.select_option("#model", "skin")
    choose_file(page)
    page.wait_for_selector("#answer:visible")

    choose_file(page, b"this is no picture", "broken.png")

    page.wait_for_selector("#error:visible")
    assert re.match("This file can't be read as a picture: .+", page.inner_text("#error"))
    assert page.locator("#answer").is_hidden()
    assert page.locator("#picture").is_hidden()


def test_force_is_said_on_the_page(page):
    page.select_option("#model", "chest")
    choose_file(page, film(square(200, 160, 20, 30), BodyPartExamined="KNEE"), "knee.dcm")
    page.wait_for_selector("#error:visible")
    assert "KNEE" in page.inner_text("#error")

    page.click("summary")
    page.check("#force")

    page.wait_for_selector("#forced:visible")
    assert "KNEE" in page.inner_text("#forced")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_notices_are_always_visible_and_nothing_overflows(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    page.select_option("#model", "skin")
    for step in ("before", "after"):
        if step == "after":
            choose_file(page)
            page.wait_for_selector("#answer:visible")
        assert page.get_by_text("Not a medical device").first.is_visible()
        assert page.get_by_text("model attention, not a segmentation").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
