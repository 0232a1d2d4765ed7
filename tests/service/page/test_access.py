"""Keyboard, screen readers, contrast, small screens; and what is always in view."""

import numpy as np
import pytest

from tests.service.page.conftest import BROKEN, SKIN, answered, choose, ramp, seen
from tests.service.pictures import film, square

DESKTOP, PHONE = {"width": 1280, "height": 844}, {"width": 390, "height": 844}
ZOOMED = {"width": 640, "height": 422}  # twice, on the desktop


def empty(page) -> None:
    """Nothing was chosen yet."""


def film_answered(page) -> None:
    answered(page, ramp(), ramp(), model="chest")
    page.click("#beside")
    page.click("summary")


def photo_answered(page) -> None:
    answered(page, SKIN, BROKEN)
    page.keyboard.press("c")


def refused(page) -> None:
    choose(page, BROKEN, film(square(200, 160, 20, 30), BodyPartExamined="KNEE"))
    page.wait_for_selector("#error:visible")
    page.wait_for_selector("#strip:not(:has(.waiting, .reading))")


def without_model(page) -> None:
    choose(page, SKIN)
    page.wait_for_selector("#error button")


def helping(page) -> None:
    page.keyboard.press("?")


STATES = [empty, film_answered, photo_answered, refused, without_model, helping]


@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing_that_keeps_anyone_out(page, state):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    state(page)

    found = []
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for one in axe.run(page).response["violations"]:
                nodes = [node["html"][:120] for node in one["nodes"]]
                found.append((size["width"], scheme, one["id"], nodes))

    assert found == []


def test_a_pressed_button_can_be_read_under_the_pointer(page):
    answered(page)
    page.click("#beside")  # and axe does not judge letters that are exactly as their ground

    color, ground = page.eval_on_selector(
        "#beside", "one => [getComputedStyle(one).color, getComputedStyle(one).backgroundColor]"
    )

    assert color != ground


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_where_the_system_chooses_the_colors_bars_and_choices_are_still_seen(open_page, scheme):
    page = open_page(forced_colors="active", color_scheme=scheme)
    answered(page, SKIN, SKIN)
    page.click("#beside")

    for one, other in (
        (".found .fill", ".track"),
        (".bar .tick", ".track"),
        ("#styles :checked + span", "#styles :not(:checked) + span"),
        ("#beside", "#zoom-in"),
    ):
        grounds = [
            page.locator(each).first.evaluate("one => getComputedStyle(one).backgroundColor")
            for each in (one, other)
        ]
        assert grounds[0] != grounds[1], (one, other)
    colors = seen(page, "#scale i").reshape(-1, 3)
    assert np.ptp(colors.astype(int), axis=1).max() > 100
    edges = page.locator(".thumb").evaluate_all(
        "all => all.map(one => getComputedStyle(one).borderColor)"
    )
    assert edges[0] != edges[1]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("state", STATES[:4])
def test_nothing_overflows_and_the_notice_is_always_in_view(open_page, state, size):
    page = open_page(viewport=size)
    state(page)

    notice = page.locator(".notice")
    for words in ("Not a medical device", "a heatmap is no segmentation", "no diagnosis"):
        assert words in notice.inner_text()
    for end in ("0", "document.documentElement.scrollHeight"):
        page.evaluate(f"scrollTo(0, {end})")
        at = notice.bounding_box()
        assert 0 <= at["y"] <= at["y"] + at["height"] <= size["height"]
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    beyond = page.evaluate(
        """width => [...document.querySelectorAll("main *, footer *, header *")].filter(one => {
            const box = one.getBoundingClientRect();
            const inside = one.closest(".unseen, .pane, #strip, #file, .bar > .unseen");
            return box.width && !inside && (box.left < -0.5 || box.right > width + 0.5);
        }).map(one => one.outerHTML.slice(0, 80))""",
        size["width"],
    )
    assert beyond == []


def test_the_caption_of_the_heat_is_beside_it(page):
    answered(page)

    assert page.get_by_text("model attention, not a segmentation").is_visible()


def test_everything_is_reached_with_the_tab_key_and_shows_that_it_has_the_focus(page):
    answered(page, ramp(), model="chest")
    wanted = {
        *("help-button", "zoom-out", "zoom-in", "zoom-fit", "beside", "window-tool", "stage"),
        *("opacity", "center", "width", "add", "model", "save-overlay", "save-report"),
        "save-dicom",
    }
    page.evaluate("document.activeElement.blur()")
    reached, unmarked = set(), []
    for _ in range(30):
        page.keyboard.press("Tab")
        name, outlined = page.evaluate(
            """() => {
                const one = document.activeElement;
                const marked = (each) => each && getComputedStyle(each).outlineStyle !== "none";
                const around = one.closest(".bar, #styles");
                return [one.id || one.name || one.className, marked(one) || marked(around)];
            }"""
        )
        reached.add(name)
        if name and not outlined:
            unmarked.append(name)

    assert wanted | {"style", "target", "thumb", "remove"} <= reached
    assert unmarked == []


@pytest.mark.parametrize("size", [PHONE, ZOOMED], ids=["phone", "zoomed"])
def test_what_has_the_focus_is_not_under_the_notice(open_page, size):
    page = open_page(viewport=size)
    film_answered(page)
    page.evaluate("scrollTo(0, 0)")
    page.focus("#help-button")

    covered = []
    for _ in range(30):
        page.keyboard.press("Tab")
        covered += page.evaluate(
            """() => {
                const one = document.activeElement;
                const notice = document.querySelector("footer").getBoundingClientRect();
                const { bottom } = (one.closest("label") ?? one).getBoundingClientRect();
                return one !== document.body && bottom > notice.top + 0.5 ? [one.outerHTML] : [];
            }"""
        )

    assert [one for one in covered if "stage" not in one] == []


def test_the_next_picture_moves_no_more_than_the_thumbnails(open_page):
    page = open_page(viewport=ZOOMED)
    answered(page, *[SKIN] * 8)
    page.evaluate("scrollTo(0, 60)")

    for _ in range(7):
        page.keyboard.press("n")

    page.wait_for_selector("#strip li:last-child [aria-current=true]")
    row, last = (
        page.locator(one).bounding_box() for one in ("#strip", "#strip li:last-child .thumb")
    )
    assert last["x"] + last["width"] <= row["x"] + row["width"] + 0.5
    assert page.evaluate("scrollY") == 60


def test_thumbnails_are_walked_with_arrows_and_removed_with_delete(page):
    answered(page, SKIN, SKIN, SKIN, BROKEN)
    page.focus("#strip .thumb")

    def at() -> tuple[str, str]:
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        return label.split(":")[0], page.get_attribute("#strip [aria-current=true]", "aria-label")

    for key, name in (
        ("ArrowRight", "Picture 2 of 4"),
        ("End", "Picture 4 of 4"),
        ("ArrowRight", "Picture 4 of 4"),
        ("ArrowLeft", "Picture 3 of 4"),
        ("Delete", "Picture 3 of 3"),
        ("Home", "Picture 1 of 3"),
    ):
        page.keyboard.press(key)
        focused, current = at()
        assert focused == name
        assert current.startswith(name)
    for _ in range(3):
        page.keyboard.press("Delete")
    assert page.evaluate("document.activeElement.id") == "file"


def test_letters_and_digits_are_shortcuts_unless_switched_off_or_typed(page):
    answered(page, ramp(), SKIN, model="chest")

    def state() -> list:
        return page.evaluate(
            """[document.querySelector("[name=style]:checked").value,
                document.querySelector("#beside").ariaPressed,
                document.querySelector("#window-tool").ariaPressed,
                [...document.querySelectorAll("[name=target]")].findIndex(one => one.checked)]"""
        )

    assert state() == ["heat", "false", "false", 0]
    for key, changed in (
        ("h", ["off", "false", "false", 0]),
        ("h", ["heat", "false", "false", 0]),
        ("c", ["contour", "false", "false", 0]),
        ("s", ["contour", "true", "false", 0]),
        ("w", ["contour", "true", "true", 0]),
        ("2", ["contour", "true", "true", 1]),
        ("9", ["contour", "true", "true", 1]),
    ):
        page.keyboard.press(key)
        assert state() == changed
    page.focus("#center")
    page.keyboard.press("2")
    page.keyboard.press("-")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Control+c")
    assert state() == changed
    page.keyboard.press("n")
    page.wait_for_selector("#strip li:nth-child(2) [aria-current=true]")
    page.keyboard.press("p")
    page.wait_for_selector("#strip li:nth-child(1) [aria-current=true]")

    page.keyboard.press("?")
    page.uncheck("#shortcuts-on")
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    assert state() == changed
    page.focus("#stage")
    before = page.input_value("#center")
    page.keyboard.press("Shift+ArrowUp")  # it has the focus, and is no letter
    assert page.input_value("#center") != before


def test_the_help_lists_every_shortcut_and_closes_by_key(page):
    page.click("#help-button")
    assert page.locator("#help").is_visible()
    for words in ("zoom in", "move the picture", "window as the file has it", "side by side"):
        assert page.locator("#shortcuts td", has_text=words).count() >= 1

    page.keyboard.press("Escape")

    assert page.locator("#help").is_hidden()
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()


def test_o_opens_the_choice_of_files_and_more_of_them_later(page):
    choosers = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    page.wait_for_timeout(100)  # the browser learns of the listener beside the keys

    with page.expect_file_chooser():
        page.keyboard.press("o")
    assert [chooser.is_multiple() for chooser in choosers] == [True]
    choosers[0].set_files({"name": "a", "mimeType": "", "buffer": BROKEN})
    page.wait_for_selector("#error:visible")
    with page.expect_file_chooser():
        page.click("#add")

    assert len(choosers) == 2
