"""Window and level of a DICOM film: dragged, typed, by keys, reset; drawn anew from the file."""

import numpy as np
import pytest

from tests.service.page.conftest import (
    SKIN,
    answered,
    box,
    drawn,
    drawn_anew,
    middle,
    ramp,
    seen,
    time_stands_still,
)

WINDOW = {"WindowCenter": 1200, "WindowWidth": 800}
"""Values from 800 to 1600 are gray; what is beyond is black or white, and lost in the 8 bits."""

STEP = 800 / 400
"""Values per pixel of a drag."""


def shades(pixels: np.ndarray, low: float, high: float) -> int:
    """How many shades of gray the values of the ramp between two others have."""
    columns = np.linspace(0, 4095, pixels.shape[1])
    return len(np.unique(pixels[:, (columns > low) & (columns < high)]))


def window(page) -> tuple[float, float]:
    return float(page.input_value("#center")), float(page.input_value("#width"))


def drag(page, right: float, down: float, button: str = "right", *, drop: bool = True) -> None:
    x, y = middle(page)
    page.mouse.move(x, y)
    page.mouse.down(button=button)
    page.mouse.move(x + right, y + down, steps=6)
    if drop:
        page.mouse.up(button=button)


@pytest.fixture
def filmed(page, asked):
    answered(page, ramp(**WINDOW), model="chest")
    asked.clear()
    return page


def test_the_window_of_the_file_is_shown_with_its_values(filmed):
    assert window(filmed) == (1200, 800)
    assert filmed.inner_text("#window-source") == "from the file"
    assert filmed.locator("#window-reset").is_disabled()


def test_a_drag_with_the_right_button_shows_what_the_files_window_hides(filmed, asked):
    assert shades(drawn(filmed), 1700, 1950) == 1

    with filmed.expect_response("**/picture"):
        drag(filmed, 0, 200)
    drawn_anew(filmed)

    assert window(filmed) == (1200 + 200 * STEP, 800)
    assert shades(drawn(filmed), 1700, 1950) > 20
    assert shades(drawn(filmed), 850, 1150) == 1
    assert filmed.inner_text("#window-source") == "chosen here"
    filmed.wait_for_timeout(400)
    assert asked == ["picture"]  # one for the whole drag, and no model was asked


def test_across_is_the_width_and_up_is_brighter(filmed):
    drag(filmed, 50, 0)
    assert window(filmed) == (1200, 800 + 50 * STEP)
    drag(filmed, -150, -100)
    assert window(filmed) == (1200 - 100 * STEP, 800 - 100 * STEP)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_while_dragged_the_picture_is_as_the_service_draws_it_afterwards(page, photometric, asked):
    answered(page, ramp(photometric=photometric, **WINDOW), model="chest")
    page.keyboard.press("h")
    asked.clear()
    at_first = seen(page, "#pane").astype(int)

    drag(page, 100, 40, drop=False)
    dragged = seen(page, "#pane").astype(int)
    assert "picture" not in asked
    page.mouse.up(button="right")
    drawn_anew(page)
    page.eval_on_selector("#picture", "image => image.decode()")
    by_the_service = seen(page, "#pane").astype(int)

    assert page.eval_on_selector("#picture", "image => image.style.filter") == ""
    # where the 8 bits of the file's own window know the value; the window is now 780 to 1780
    left, _, width, _ = box(page, "#picture")
    first = round(left - box(page, "#pane")[0])
    known = slice(first + int(900 / 4096 * width), first + int(1500 / 4096 * width))
    assert np.abs(dragged[:, known] - by_the_service[:, known]).max() <= 6
    assert np.abs(dragged[:, known] - at_first[:, known]).max() > 20


def test_up_is_brighter_where_small_values_are_the_bright_ones_too(page):
    answered(page, ramp(photometric="MONOCHROME1", **WINDOW), model="chest")
    before = drawn(page).mean()

    with page.expect_response("**/picture"):
        drag(page, 0, -60)
    drawn_anew(page)

    assert window(page) == (1200 + 60 * STEP, 800)
    assert drawn(page).mean() > before + 2


def test_with_the_tool_any_drag_and_one_finger_change_the_window(open_page):
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    answered(page, ramp(**WINDOW), model="chest")
    drag(page, 30, 0, button="left")
    assert window(page) == (1200, 800)

    page.click("#window-tool")
    drag(page, 30, 0, button="left")
    assert window(page) == (1200, 800 + 30 * STEP)
    line = page.context.new_cdp_session(page)
    x, y = middle(page)
    for kind, down in (("Start", 0), ("Move", 10), ("Move", 25), ("End", 25)):
        points = [] if kind == "End" else [{"x": x, "y": y + down}]
        line.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})

    assert window(page) == (1200 + 25 * STEP, 800 + 30 * STEP)
    assert page.inner_text("#zoom") == "fit"


def test_keys_change_the_window_and_reset_it(filmed, asked):
    filmed.focus("#stage")
    with time_stands_still(filmed) as pass_by:
        for key, changed in (
            ("ArrowRight", (1200, 840)),
            ("ArrowUp", (1160, 840)),
            ("ArrowLeft", (1160, 800)),
            ("ArrowDown", (1200, 800)),
            ("ArrowDown", (1240, 800)),
        ):
            filmed.keyboard.press(f"Shift+{key}")
            assert window(filmed) == changed
            pass_by(200)
        assert asked == []  # not while one key follows the other
        pass_by(1000)
        drawn_anew(filmed)
    assert asked == ["picture"]

    filmed.keyboard.press("r")

    assert window(filmed) == (1200, 800)
    assert filmed.inner_text("#window-source") == "from the file"


def test_values_can_be_typed_and_nonsense_is_not_taken(filmed):
    filmed.fill("#center", "3000")
    filmed.fill("#width", "2000")
    filmed.keyboard.press("Enter")
    drawn_anew(filmed)
    assert shades(drawn(filmed), 2100, 3900) > 150

    for key in ("Tab", "Enter"):
        for nonsense in ("-5", "0", ""):
            filmed.fill("#width", nonsense)
            filmed.keyboard.press(key)
            assert window(filmed) == (3000, 2000)


def test_a_reset_shows_the_picture_as_it_came(filmed):
    before = drawn(filmed)
    drag(filmed, 80, 80)
    drawn_anew(filmed)

    with filmed.expect_response("**/picture"):
        filmed.click("#window-reset")
    drawn_anew(filmed)

    np.testing.assert_array_equal(drawn(filmed), before)


def test_a_window_changes_no_answer(filmed, asked):
    before = filmed.inner_text("#bars")

    drag(filmed, -100, 100)
    drawn_anew(filmed)

    assert filmed.inner_text("#bars") == before
    assert "explain" not in asked


def test_where_the_file_has_no_window_the_range_of_its_values_is_shown(page):
    answered(page, ramp(), model="chest")

    assert window(page) == (2048, 4096)
    assert page.inner_text("#window-source") == "all values there are"


def test_a_photograph_has_no_window(page):
    answered(page, SKIN)

    assert page.locator("#window").is_hidden()
    assert page.locator("#window-tool").is_hidden()
    x, y = middle(page)
    page.mouse.move(x, y)
    page.mouse.down(button="right")
    page.mouse.move(x + 50, y)
    page.mouse.up(button="right")
    page.keyboard.press("w")
    page.keyboard.press("Shift+ArrowUp")
    assert page.eval_on_selector("#picture", "image => image.style.filter") == ""


def test_a_picture_that_cannot_be_drawn_anew_says_so_and_no_other_does(page):
    refusal = {"error": {"code": "internal_error", "message": "see the log", "request_id": "1"}}
    page.route("**/picture", lambda route: route.fulfill(status=422, json=refusal))
    answered(page, ramp(**WINDOW), ramp(), b"no picture", model="chest")
    page.wait_for_selector("#strip:not(:has(.waiting, .reading))")
    thumbs = page.locator("#strip .thumb")

    for other in (1, 2):
        page.fill("#width", str(50 + other))
        page.keyboard.press("Enter")
        page.wait_for_selector("#view-problem:visible")
        assert "not drawn anew" in page.inner_text("#view-problem")
        thumbs.nth(other).click()
        assert page.locator("#view-problem").is_hidden()
        thumbs.nth(0).click()
