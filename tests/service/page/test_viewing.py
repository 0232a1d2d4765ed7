"""Zoom and pan, heat and lines, with and without overlay side by side."""

import json

import numpy as np
import pytest

from tests.service.page.conftest import SKIN, answered, box, middle, seen, time_stands_still
from tests.service.pictures import png, square


def under(page, x: float, y: float, selector: str = "#picture") -> tuple[float, float]:
    """Which point of the picture is there on the screen, as shares of its width and height."""
    left, top, width, height = box(page, selector)
    return (x - left) / width, (y - top) / height


def on_the_picture(page) -> bool:
    return box(page, "#heat") == pytest.approx(box(page, "#picture"), abs=0.01)


def test_the_whole_picture_is_seen_at_first_and_the_heat_lies_on_it(page):
    answered(page)

    left, top, width, height = box(page, "#picture")
    pane = box(page, "#pane")
    assert width / height == pytest.approx(500 / 300, abs=0.01)
    assert width == pytest.approx(pane[2], abs=1) or height == pytest.approx(pane[3], abs=1)
    assert left >= pane[0] - 0.5
    assert top >= pane[1] - 0.5
    assert on_the_picture(page)


def test_the_wheel_zooms_about_the_pointer(page):
    answered(page)
    left, top, width, height = box(page, "#picture")
    x, y = left + 0.7 * width, top + 0.4 * height
    page.mouse.move(x, y)

    page.mouse.wheel(0, -400)

    page.wait_for_selector("#zoom >> text=2.2")
    assert box(page, "#picture")[2] == pytest.approx(width * np.exp(0.8), rel=0.01)
    assert under(page, x, y) == pytest.approx((0.7, 0.4), abs=0.01)
    assert on_the_picture(page)
    page.mouse.wheel(0, 4000)
    page.wait_for_selector("#zoom >> text=fit")
    assert box(page, "#picture") == pytest.approx((left, top, width, height), abs=0.5)


def test_a_drag_moves_the_picture_with_the_pointer_and_never_out_of_sight(page):
    answered(page)
    for _ in range(4):
        page.click("#zoom-in")
    x, y = middle(page)
    before = under(page, x, y)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 120, y - 50, steps=5)
    assert under(page, x + 120, y - 50) == pytest.approx(before, abs=0.01)
    assert on_the_picture(page)

    page.mouse.move(x + 9000, y, steps=5)
    page.mouse.up()

    assert box(page, "#picture")[0] == pytest.approx(box(page, "#pane")[0], abs=0.5)


def test_a_double_click_zooms_in_and_out(page):
    answered(page)
    page.evaluate(
        """() => {
            window.ups = [];
            addEventListener("pointerup", (event) => ups.push(event.timeStamp), true);
        }"""
    )

    def double_click() -> None:
        """One as quick as those of people, though the machine may be slow now and then."""
        for _ in range(20):
            page.mouse.dblclick(*middle(page))
            first, second = page.evaluate("ups.splice(0)")
            page.wait_for_timeout(400)  # the next click is none of these
            if second - first < 350:  # what the page takes for a double click, by these times
                return
        raise AssertionError("no double click was quick")

    double_click()
    assert page.inner_text("#zoom").endswith("3.0")
    double_click()
    assert page.inner_text("#zoom") == "fit"


def test_keys_and_buttons_zoom_and_move(page):
    answered(page)
    for closer, farther, whole in (("+", "-", "0"), ("#zoom-in", "#zoom-out", "#zoom-fit")):
        act = page.click if closer.startswith("#") else page.keyboard.press
        seen_at = []
        for what in (closer, closer, farther, whole):
            act(what)
            seen_at.append(page.inner_text("#zoom")[-3:])
        assert seen_at == ["1.4", "2.0", "1.4", "fit"]
    page.focus("#stage")
    page.keyboard.press("+")
    page.keyboard.press("+")
    x, y = middle(page)
    before = under(page, x, y)

    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")

    after = under(page, x, y)
    assert after[0] > before[0]
    assert after[1] > before[1]
    assert on_the_picture(page)


def test_two_fingers_zoom_about_the_place_between_them(open_page):
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    answered(page)
    line = page.context.new_cdp_session(page)
    x, y = middle(page)
    width = box(page, "#picture")[2]
    before = under(page, x, y)

    def touch(kind: str, apart: float) -> None:
        points = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
        line.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [] if kind == "touchEnd" else points},
        )

    touch("touchStart", 30)
    for apart in range(35, 95, 5):
        touch("touchMove", apart)
    touch("touchEnd", 90)

    assert box(page, "#picture")[2] == pytest.approx(3 * width, rel=0.1)
    assert under(page, x, y) == pytest.approx(before, abs=0.02)
    assert on_the_picture(page)


def test_a_picture_larger_than_was_sent_is_sharpened_when_looked_at_closely(page, asked):
    fine = np.zeros((1800, 1800), np.uint8)
    fine[:, ::2] = 255  # columns that no smaller picture shows
    fine[60:420, 60:420] = 255
    answered(page, png(fine))
    assert page.eval_on_selector("#picture", "image => image.naturalWidth") == 1024

    with time_stands_still(page) as pass_by:
        for _ in range(6):
            page.click("#zoom-in")
            pass_by(200)
        assert "picture" not in asked  # not while one click follows the other
        pass_by(1000)

    page.wait_for_selector("#picture[src^=blob]")
    page.eval_on_selector("#picture", "image => image.decode()")
    assert page.eval_on_selector("#picture", "image => image.naturalWidth") == 1800
    assert on_the_picture(page)
    page.click("#zoom-fit")
    page.wait_for_timeout(400)
    assert asked.count("picture") == 1
    assert asked.count("explain") == 1


def test_the_slider_fades_the_heat_without_a_request(page, asked):
    answered(page)
    asked.clear()

    for value, opacity in ((0, "0"), (85, "0.85")):
        page.locator("#opacity").fill(str(value))
        assert page.eval_on_selector("#heat", "image => image.style.opacity") == opacity
        assert page.inner_text("#opacity-value") == f"{value} %"
    assert asked == []


def test_the_overlay_is_heat_or_lines_or_nothing(page, asked):
    answered(page)
    asked.clear()
    page.locator("#opacity").fill("100")
    hot = seen(page)
    page.locator("#styles label", has_text="Off").click()
    off = seen(page)
    page.locator("#styles label", has_text="Contour").click()
    lines = seen(page)

    colored = [np.ptp(shot.astype(int), axis=2) > 60 for shot in (hot, lines, off)]
    assert colored[0].sum() > colored[1].sum() > 100
    assert colored[2].sum() < 100
    assert page.locator("#opacity").is_disabled()
    assert page.locator("#heat").is_hidden()
    assert asked == []


def test_lines_run_where_the_heat_is_a_quarter_a_half_and_three_quarters(page):
    answered(page)
    page.keyboard.press("c")
    page.wait_for_selector("#lines path", state="attached")

    found = json.loads(
        page.evaluate(
            """() => {
                const canvas = document.querySelector("#heat");
                const { data } = canvas.getContext("2d")
                    .getImageData(0, 0, canvas.width, canvas.height);
                const lines = [...document.querySelectorAll("#lines path")];
                return JSON.stringify({
                    width: canvas.width, height: canvas.height,
                    heat: Array.from(data.filter((_, at) => at % 4 === 3)),
                    box: document.querySelector("#lines").getAttribute("viewBox"),
                    lines: lines.map((line) => line.getAttribute("d").match(/[0-9.]+/g)),
                });
            }"""
        )
    )

    heat = np.array(found["heat"], float).reshape(found["height"], found["width"])
    assert found["box"] == f"0 0 {found['width']} {found['height']}"
    for level, line in zip((0.25, 0.25, 0.5, 0.5, 0.75, 0.75), found["lines"], strict=True):
        points = np.array(line, float).reshape(-1, 2) - 0.5  # pixels are known in their middle
        assert len(points) > 8
        low, high = np.floor(points).astype(int), np.ceil(points).astype(int)
        one, other = heat[low[:, 1], low[:, 0]], heat[high[:, 1], high[:, 0]]
        share = (points - low).max(axis=1)
        np.testing.assert_allclose(one + share * (other - one), 255 * level, atol=1.5)


def test_who_returns_to_the_page_sees_what_its_controls_say(page, server):
    answered(page)
    page.locator("#opacity").fill("80")
    page.keyboard.press("h")
    page.goto(f"{server.url}/livez")
    page.go_back()
    page.wait_for_selector("#model option[value=skin]", state="attached")

    answered(page)

    page.wait_for_selector("#heat[width='320']", state="attached")
    style = page.eval_on_selector("[name=style]:checked", "one => one.value")
    assert page.locator("#heat").is_hidden() == (style == "off")
    assert page.inner_text("#opacity-value") == f"{page.input_value('#opacity')} %"
    opacity = page.eval_on_selector("#heat", "image => Number(image.style.opacity)")
    assert 100 * opacity == pytest.approx(float(page.input_value("#opacity")))


def test_noise_that_a_browser_gives_for_pixels_is_not_shown_as_heat(page):
    page.evaluate(
        """() => {
            const asked = CanvasRenderingContext2D.prototype.getImageData;
            CanvasRenderingContext2D.prototype.getImageData = function (...what) {
                const pixels = asked.apply(this, what);
                crypto.getRandomValues(pixels.data.subarray(0, 256));
                return pixels;
            };
        }"""
    )

    answered(page)
    page.wait_for_selector("#heat-problem:visible")

    assert "the overlay is not drawn here" in page.inner_text("#heat-problem")
    for style in ("heat", "contour"):
        page.check(f"[name=style][value={style}]", force=True)
        assert page.locator("#heat, #lines").filter(visible=True).count() == 0
    assert page.locator(".thumb img[src]").count() == 0


def test_lines_are_as_thin_at_every_zoom(page):
    answered(page)
    page.keyboard.press("c")
    page.wait_for_selector("#lines path", state="attached")

    def runs() -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns where a line's color begins, and for how many pixels it goes on."""
        colored = np.ptp(seen(page).astype(int), axis=2) > 60
        edges = np.diff(np.pad(colored, ((0, 0), (1, 1))).astype(int), axis=1)
        begins, ends = np.argwhere(edges > 0), np.argwhere(edges < 0)
        return begins, ends[:, 1] - begins[:, 1]

    begins, thin = runs()
    left, top, *_ = box(page, "#stage")
    down, right = begins[len(begins) // 2]
    page.mouse.move(left + right, top + down)
    page.mouse.wheel(0, -800)
    page.wait_for_selector("#zoom >> text=5.0")

    begins, thickness = runs()
    assert len(begins) > 0
    assert np.median(thickness) <= np.median(thin) + 1


def test_side_by_side_both_show_the_same_part_and_one_of_them_no_heat(page):
    answered(page)
    page.locator("#opacity").fill("100")

    page.click("#beside")
    page.mouse.move(*middle(page, "#pane"))
    page.mouse.wheel(0, -300)
    page.mouse.down()
    page.mouse.move(*np.add(middle(page, "#pane"), (-160, 40)))
    page.mouse.up()

    panes = [np.array(box(page, selector)) for selector in ("#plain-pane", "#pane")]
    pictures = [np.array(box(page, selector)) for selector in ("#plain", "#picture")]
    np.testing.assert_allclose(
        pictures[0][:2] - panes[0][:2], pictures[1][:2] - panes[1][:2], atol=0.01
    )
    np.testing.assert_allclose(pictures[0][2:], pictures[1][2:], atol=0.01)
    assert on_the_picture(page)
    colors = [
        np.ptp(seen(page, pane).astype(int), axis=2).max() for pane in ("#plain-pane", "#pane")
    ]
    assert colors[0] < 60 < colors[1]
    page.click("#beside")
    assert page.locator("#plain").is_hidden()


def test_another_picture_is_seen_whole_at_first(page):
    answered(page, SKIN, png(square(300, 200, 60, 20)))
    page.click("#zoom-in")

    page.keyboard.press("n")

    page.wait_for_selector("#zoom >> text=fit")
    assert box(page, "#picture")[3] == pytest.approx(box(page, "#pane")[3], abs=1)
