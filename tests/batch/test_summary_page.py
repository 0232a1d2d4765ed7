"""The summary as a person opens it: in a headless browser, on paper, with the keyboard."""

import shutil
from pathlib import Path

import pytest

from service.batch.job import Job
from tests import patience
from tests.batch.conftest import score, write_picture
from tests.factories import make_dicom, make_film
from tests.models_factory import square_model

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")

LABELS = ("plain", "a rather long name of a class that has to be wrapped on a telephone", "<i>x")


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run that met everything, with names that would rather be code."""
    folder = tmp_path_factory.mktemp("page")
    films = folder / "films"
    square_model(folder / "models", "long", labels=LABELS)
    for number in range(8):
        write_picture(films / f"{number} <script>alert(1).png", bright=number % 3 > 0, size=300)
    film = make_dicom(make_film(), Modality="CT")
    film.save_as(films / f"{'very long name ' * 10}.dcm", enforce_file_format=True)
    (films / "<img src=x onerror=alert(1)>.dcm").write_text("no picture")
    job = Job(models=folder / "models", model="long", exclude={"modality": ("CT",)}, force=True)
    score(films, job, folder / "s.csv", summary=folder / "s.html", names=True)
    return folder / "s.html"


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            timeout=1000 * patience.SECONDS,
            args=[
                *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                "--disable-sync",
            ],
        )
        yield chromium
        chromium.close()


@pytest.fixture(params=[("light", 1280), ("dark", 1280), ("light", 390)], ids=str)
def page(browser, summary: Path, request: pytest.FixtureRequest):
    """The page; afterwards it must have asked for nothing and complained of nothing."""
    scheme, width = request.param
    opened = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    opened.set_default_timeout(1000 * patience.SECONDS)
    asked, complaints = [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("dialog", lambda dialog: complaints.append(dialog.message))
    opened.goto(summary.as_uri())
    yield opened
    opened.close()
    assert [url for url in asked if not url.startswith(("data:", summary.as_uri()))] == []
    assert complaints == []


def test_it_shows_everything_and_nothing_overflows(page):
    assert page.get_by_text("A score is no diagnosis").is_visible()
    assert page.locator("svg.histogram").count() == len(LABELS)
    pictures = page.locator(".pictures img")
    assert pictures.count() == 2 * len(LABELS)  # two contents
    assert pictures.evaluate_all("all => all.every(one => one.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("script, i").count() == 0
    # the policy lets the style in
    assert page.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == (
        "collapse"
    )


def test_a_picture_is_larger_when_chosen_and_smaller_again(page):
    first = page.locator("#picture-1-1")
    before = first.locator("img").bounding_box()

    first.locator("a.larger").focus()
    page.keyboard.press("Enter")

    after = first.locator("img").bounding_box()
    assert after["height"] > 1.3 * before["height"]
    first.get_by_text("smaller again").click()
    assert first.locator("img").bounding_box()["height"] == before["height"]


def test_it_is_accessible(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")

    found = axe.Axe().run(page)

    assert found.violations_count == 0, found.generate_report()


def test_on_paper_all_pictures_are_there(page):
    page.emulate_media(media="print")

    assert page.locator(".pictures img").last.is_visible()
    assert page.locator("nav").is_hidden()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_a_picture_from_elsewhere_would_not_be_fetched(browser, summary: Path, tmp_path: Path):
    """The policy holds even if something should slip through."""
    spoilt = tmp_path / "spoilt.html"
    intruders = '<img src="http://localhost:9/x.png"><script>document.title = "owned"</script>'
    spoilt.write_text(summary.read_text("utf-8").replace("<main>", f"<main>{intruders}"), "utf-8")
    opened = browser.new_page()
    refused = []
    opened.on("console", lambda message: refused.append(message.text))

    opened.goto(spoilt.as_uri())

    assert opened.title() != "owned"
    assert sum("Content Security Policy" in text for text in refused) == 2
    opened.close()
