"""The page where the service asks for a key; and what its policy forbids."""

from collections.abc import Iterator

import pytest

from tests import patience
from tests.server import Server, started
from tests.service.page.conftest import SKIN, choose, watched

KEY = "page-key-0123456789"


@pytest.fixture(scope="module")
def locked(models_folder, tmp_path_factory) -> Iterator[Server]:
    with started(
        models_folder, tmp_path_factory.mktemp("locked"), api_keys=f"ward:{KEY}"
    ) as running:
        yield running


def enter(page, key: str) -> None:
    page.fill("#key", key)
    page.keyboard.press("Enter")


def test_where_a_key_is_asked_for_the_page_takes_one_and_keeps_it_in_the_tab(browser, locked):
    with watched(browser, locked.url) as page:
        page.wait_for_selector("#key-dialog[open]")
        assert "asks for a key" in page.inner_text("#key-dialog")
        assert page.locator("#key-problem").is_hidden()

        enter(page, "not-the-right-key-0")
        page.wait_for_selector("#key-problem:visible")
        enter(page, KEY)

        page.wait_for_selector("#model option[value=skin]", state="attached")
        assert page.locator("#key-dialog").is_hidden()
        page.reload()
        page.wait_for_selector("#model option[value=skin]", state="attached")
        page.select_option("#model", "skin")
        choose(page, SKIN)
        page.wait_for_selector("#answer:visible")
        assert KEY not in page.content()
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_who_enters_no_key_is_told_that_one_is_needed(browser, locked):
    with watched(browser, locked.url) as page:
        page.wait_for_selector("#key-dialog[open]")
        page.keyboard.press("Escape")

        page.wait_for_selector("#notice-models:visible")
        assert "The service asks for a key" in page.inner_text("#notice-models")


def test_a_key_entered_later_brings_the_models_too(browser, locked):
    with watched(browser, locked.url) as page:
        page.wait_for_selector("#key-dialog[open]")
        page.keyboard.press("Escape")
        page.wait_for_selector("#notice-models:visible")

        choose(page, SKIN)
        page.wait_for_selector("#key-dialog[open]")
        enter(page, KEY)

        page.locator("#error").get_by_role("button", name="skin").click()
        page.wait_for_selector("#answer:visible")
        assert page.locator("#notice-models").is_hidden()


def test_the_policy_lets_no_inline_style_script_or_other_host_in(browser, server):
    page = browser.new_page()
    page.goto(server.url)

    tried = page.evaluate(
        """async (limit) => {
            const broken = [];
            document.addEventListener("securitypolicyviolation",
                (event) => broken.push(event.effectiveDirective));
            document.body.insertAdjacentHTML("beforeend", "<p style='color: red'>x</p>");
            const script = document.createElement("script");
            script.textContent = "window.inline = true";
            document.body.append(script);
            const image = new Image();
            image.src = "https://care.invalid/x.png";
            await fetch("https://care.invalid/x").catch(() => {});
            const late = performance.now() + 1000 * limit;
            do {
                await new Promise((resolve) => setTimeout(resolve, 200));
            } while (broken.length < 4 && performance.now() < late);
            return [broken.sort(), window.inline ?? null];
        }""",
        patience.SECONDS,
    )

    assert tried == [["connect-src", "img-src", "script-src-elem", "style-src-attr"], None]
    page.close()
