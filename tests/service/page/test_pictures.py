"""How pictures come to the page and go again, and what it says of each."""

import re

import numpy as np
import pytest

from tests.factories import as_bytes, make_dicom
from tests.service.page.conftest import BROKEN, SKIN, answered, choose
from tests.service.pictures import film, jpeg, png, square

FILM = film(square(200, 160, 20, 30), StudyInstanceUID="1.2.3")
KNEE = film(square(200, 160, 20, 30), BodyPartExamined="KNEE")

TRANSFER = """files => {
    const transfer = new DataTransfer();
    files.forEach((bytes, at) => transfer.items.add(new File([new Uint8Array(bytes)], `${at}`)));
    return transfer;
}"""


WIDTH = "image => image.decode().then(() => image.naturalWidth)"


def thumbs(page):
    return page.locator("#strip .thumb")


def wait_for_all(page):
    page.wait_for_selector("#strip:not(:has(.waiting, .reading))")


def read(page) -> str:
    """What the page says it has read, such as "PNG, 500 x 300"."""
    return page.locator("#facts dd").first.inner_text().replace("\u00d7", "x")


def test_a_chosen_file_shows_its_picture_heat_and_bars(page):
    answered(page)

    size = page.eval_on_selector("#picture", "image => [image.naturalWidth, image.naturalHeight]")
    assert size == [500, 300]
    page.wait_for_selector("#heat[width='320']")
    assert page.locator(".bar").count() == 3
    assert page.locator(".bar .tick").count() == 3
    assert "square" in page.locator(".bar").first.inner_text()
    assert page.locator(".found").count() == 1
    assert "evidence for square" in page.inner_text("#evidence")


def test_bars_and_their_operating_points_are_as_long_as_the_answer_says(page):
    with page.expect_response("**/explain") as answer:
        answered(page)
    for row, told in enumerate(answer.value.json()["predictions"]):
        bar = page.locator(".bar").nth(row)
        track = bar.locator(".track").bounding_box()
        fill, tick = (bar.locator(f".{name}").bounding_box() for name in ("fill", "tick"))
        assert fill["width"] == pytest.approx(max(2, told["probability"] * track["width"]), abs=0.5)
        at = tick["x"] + tick["width"] / 2 - track["x"]
        assert at == pytest.approx(told["operating_point"] * track["width"], abs=0.5)
        assert bar.locator(".percent").inner_text() == f"{100 * told['probability']:.1f} %"


def test_another_class_can_be_explained(page):
    answered(page)

    page.locator(".bar", has_text="melanoma").click()

    assert "no positive evidence for melanoma" in page.inner_text("#evidence")
    assert page.locator("#heat").is_hidden()
    page.keyboard.press("ArrowUp")
    assert "nevus" in page.inner_text("#evidence")


def test_dropped_films_find_their_model(page):
    transfer = page.evaluate_handle(TRANSFER, [list(FILM), list(FILM)])

    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})

    page.wait_for_selector("#answer:visible")
    assert "chest 1.0.0" in page.inner_text("#facts")
    assert "DX CHEST PA" in page.inner_text("#facts")
    assert thumbs(page).count() == 2


def test_a_picture_can_be_pasted(page):
    page.select_option("#model", "skin")

    page.evaluate(
        f"""files => document.body.dispatchEvent(new ClipboardEvent("paste",
            {{ clipboardData: ({TRANSFER})(files), bubbles: true }}))""",
        [list(SKIN)],
    )

    page.wait_for_selector("#answer:visible")
    assert read(page) == "PNG, 500 x 300"


def test_pasted_text_is_no_picture(page):
    page.evaluate(
        """() => document.body.dispatchEvent(new ClipboardEvent("paste",
            { clipboardData: new DataTransfer(), bubbles: true }))"""
    )

    assert page.locator("#invitation").is_visible()


def test_several_files_are_a_row_of_thumbnails_each_asked_for_once(page, asked):
    answered(page, SKIN, jpeg(square(100, 200, 20, 30)), png(square(90, 90, 9, 9)))
    wait_for_all(page)

    assert thumbs(page).count() == 3
    for at, size in ((1, "JPEG, 200 x 100"), (2, "PNG, 90 x 90"), (0, "PNG, 500 x 300")):
        thumbs(page).nth(at).click()
        assert read(page) == size
        assert thumbs(page).nth(at).get_attribute("aria-current") == "true"
        assert thumbs(page).nth(at).locator("img").evaluate(WIDTH) > 0
    assert asked.count("explain") == 3


def test_a_bad_file_among_others_has_its_words_in_place_and_costs_them_nothing(page):
    answered(page, SKIN, BROKEN, SKIN)
    wait_for_all(page)

    thumbs(page).nth(1).click()

    page.wait_for_selector("#error:visible")
    assert re.match("This file can't be read as a picture: .+", page.inner_text("#error"))
    assert page.locator("#answer").is_hidden()
    assert page.locator("#picture").is_hidden()
    assert "can't be read as a picture" in thumbs(page).nth(1).get_attribute("aria-label")
    for at in (2, 0):
        thumbs(page).nth(at).click()
        page.wait_for_selector("#answer:visible")
        assert page.locator("#error").is_hidden()


def test_a_class_and_a_window_chosen_for_one_picture_stay_with_it(page):
    answered(page, FILM, film(square(100, 100, 9, 9)), model="chest")
    wait_for_all(page)
    page.locator(".bar").nth(1).click()
    page.fill("#width", "50")
    page.keyboard.press("Enter")

    thumbs(page).nth(1).click()
    assert page.locator(".bar input").nth(0).is_checked()
    assert page.inner_text("#window-source") == "all values there are"
    thumbs(page).nth(0).click()
    assert page.locator(".bar input").nth(1).is_checked()
    assert page.input_value("#width") == "50"


def test_answers_not_looked_at_for_long_are_given_up_and_asked_for_again(page, asked):
    answered(page, *[png(square(64 + at, 64, 8, 8, 30)) for at in range(18)])
    wait_for_all(page)
    assert asked.count("explain") == 18

    thumbs(page).nth(1).click()
    assert read(page) == "PNG, 64 x 65"
    assert asked.count("explain") == 18
    thumbs(page).nth(17).click()
    page.wait_for_selector("#answer:visible")

    assert read(page) == "PNG, 64 x 81"
    assert asked.count("explain") == 19


def test_pictures_are_removed_one_by_one_and_all_at_once(page):
    answered(page, SKIN, BROKEN, FILM)
    wait_for_all(page)

    page.get_by_role("button", name="Remove picture 1").click()
    assert thumbs(page).count() == 2
    page.wait_for_selector("#error:visible")
    page.click("#clear")

    assert page.locator("#tray").is_hidden()
    assert page.locator("#invitation").is_visible()
    assert page.locator("#error").is_hidden()
    answered(page)


def test_a_picture_without_model_is_answered_in_words_and_then_by_choosing_one(page):
    choose(page, SKIN, SKIN)
    page.wait_for_selector("#error:visible")
    assert "Please choose a model" in page.inner_text("#error")
    assert "`" not in page.inner_text("#error")
    wait_for_all(page)
    assert thumbs(page).nth(0).locator("img").is_visible()

    page.select_option("#model", "skin")

    page.wait_for_selector("#answer:visible")
    assert page.locator("#error").is_hidden()
    page.wait_for_selector("#strip li:nth-child(2).answered")


def test_a_picture_without_model_offers_all_there_are(page):
    choose(page, SKIN)
    page.wait_for_selector("#error:visible")

    page.locator("#error").get_by_role("button", name="skin").click()

    page.wait_for_selector("#answer:visible")
    assert page.input_value("#model") == "skin"
    assert page.locator("#error").is_hidden()


def test_a_model_chosen_for_a_picture_asks_no_other_again_that_has_its_answer(page, asked):
    choose(page, SKIN, FILM)
    page.wait_for_selector("#error:visible")
    page.select_option("#model", "skin")
    page.wait_for_selector("#answer:visible")
    wait_for_all(page)
    thumbs(page).nth(1).click()
    asked.clear()

    page.select_option("#model", "chest")
    page.wait_for_selector("#answer:visible")
    wait_for_all(page)
    thumbs(page).nth(0).click()

    assert asked.count("explain") == 1
    assert "skin" in page.inner_text("#facts")


def test_force_is_said_on_the_page_and_over_the_picture(page):
    page.select_option("#model", "chest")
    choose(page, KNEE)
    page.wait_for_selector("#error:visible")
    assert "KNEE" in page.inner_text("#error")
    assert "More options" in page.inner_text("#error")

    page.click("summary")
    page.check("#force")

    page.wait_for_selector("#forced:visible")
    assert "KNEE" in page.inner_text("#forced")
    assert "forced: not suitable" in page.inner_text("#badges")
    choose(page, KNEE)
    page.wait_for_selector("#error:visible")
    assert not page.is_checked("#force")


def test_what_weakens_an_answer_is_said_over_the_picture(page):
    def unlike(route):
        answer = route.fetch()
        changed = answer.json() | {"remark": "unlike the training pictures"}
        route.fulfill(response=answer, json=changed)

    page.route("**/explain", unlike)
    answered(page)

    assert page.inner_text("#badges") == "unlike the training pictures"
    assert "unlike the training pictures" in page.inner_text("#remark")
    page.locator(".bar", has_text="melanoma").click()
    assert "melanoma: below its operating point" in page.inner_text("#badges")


def test_a_frame_can_be_chosen(page):
    frames = np.stack([square(64, 64, 8, 8), square(64, 64, 30, 30)])
    page.select_option("#model", "chest")
    choose(page, as_bytes(make_dicom(frames, frames=2)))
    page.wait_for_selector("#error:visible")
    assert "2 frames" in page.inner_text("#error")

    page.click("summary")
    page.fill("#frame", "2")
    page.keyboard.press("Enter")

    page.wait_for_selector("#answer:visible")
    assert "frame 2 of 2" in page.inner_text("#facts")


def test_a_busy_service_is_asked_again(page):
    busy = {"error": {"code": "overloaded", "message": "too many", "request_id": "1"}}
    seen = []

    def once(route):
        seen.append(route)
        if len(seen) > 1:
            return route.fallback()
        return route.fulfill(status=429, headers={"Retry-After": "1"}, json=busy)

    page.route("**/explain", once)
    answered(page)

    assert len(seen) == 2


def test_a_service_that_is_gone_is_said_in_words(open_page):
    page = open_page()
    page.select_option("#model", "skin")
    refusal = {"error": {"code": "internal_error", "message": "see the log", "request_id": "1"}}
    page.route("**/explain", lambda route: route.fulfill(status=422, json=refusal))
    choose(page, SKIN)

    page.wait_for_selector("#error:visible")
    assert page.inner_text("#error") == "The service made a mistake: see the log."


def test_an_answer_that_is_cut_off_is_said_in_words(page):
    answered(page)
    page.evaluate(
        """() => {
            const asked = window.fetch;
            const cut = { start: (answer) => answer.error(new TypeError("cut off")) };
            window.fetch = async (...what) =>
                new Response(new ReadableStream(cut), await asked(...what));
        }"""
    )

    page.click("#save-overlay")
    page.wait_for_selector("#save-problem:visible")
    assert "Not saved. The service does not answer." in page.inner_text("#save-problem")
    choose(page, SKIN)
    page.wait_for_selector("#error:visible")
    assert page.inner_text("#error").startswith("The service does not answer.")


def test_an_answer_that_makes_no_sense_is_said_in_words(page):
    page.route("**/picture", lambda route: route.fulfill(content_type="image/png", body="no"))
    page.route("**/models", lambda route: route.fulfill(content_type="application/json", body="{"))
    answered(page, FILM, model="chest")
    page.fill("#width", "50")
    page.keyboard.press("Enter")
    page.wait_for_selector("#view-problem:visible")
    assert "The service made a mistake" in page.inner_text("#view-problem")

    page.reload()
    page.wait_for_selector("#notice-models:visible")
    assert "The service made a mistake" in page.inner_text("#notice-models")


def test_a_file_that_is_gone_or_empty_is_said_in_words_and_keeps_no_other_waiting(page, tmp_path):
    path = tmp_path / "gone.png"
    path.write_bytes(SKIN)
    page.select_option("#model", "skin")
    page.set_input_files("#file", path)
    page.wait_for_selector("#answer:visible")
    path.unlink()

    page.click("summary")
    page.check("#force")
    page.wait_for_selector("#error:visible")
    assert "This file can't be opened or is empty" in page.inner_text("#error")
    choose(page, b"", SKIN)
    page.wait_for_selector("#error:visible")
    assert "This file can't be opened or is empty" in page.inner_text("#error")
    page.wait_for_selector("#strip li:nth-child(3).answered")


def test_no_name_of_a_file_leaves_the_page(page):
    page.evaluate(
        """() => {
            const asked = window.fetch;
            window.names = [];
            window.fetch = (address, options) => {
                for (const part of options.body?.values() ?? []) {
                    if (part instanceof File) window.names.push(part.name);
                }
                return asked(address, options);
            };
        }"""
    )

    answered(page, FILM, model="chest")
    for kind in ("overlay", "dicom", "report"):
        with page.expect_download() as download:
            page.click(f"#save-{kind}")
        assert "Canary" not in download.value.suggested_filename
    with page.expect_response("**/picture"):
        page.fill("#width", "50")
        page.keyboard.press("Enter")

    assert page.evaluate("window.names") == ["image"] * 4


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (413, "A proxy in front of the service lets no file through that is as large"),
        (403, "Something in front of the service refused this, with status 403."),
        (200, "perhaps one to log in"),
    ],
)
def test_an_answer_that_is_not_the_services_is_told_apart(page, status, words):
    page.route(
        "**/explain",
        lambda route: route.fulfill(
            status=status, content_type="text/html; charset=utf-8", body="<h1>nginx</h1>"
        ),
    )

    page.select_option("#model", "skin")
    choose(page, SKIN)

    page.wait_for_selector("#error:visible")
    assert words in page.inner_text("#error")
