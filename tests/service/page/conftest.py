"""The page, used in a headless browser as a person would use it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from tests import patience
from tests.factories import as_bytes, make_dicom
from tests.service.pictures import png, square

SKIN = png(square(300, 500, 60, 420))
BROKEN = b"this is no picture"


@contextmanager
def watched(browser, url: str, **context: object) -> Iterator:
    """A page opened in a browser; afterwards it must have asked nobody else nor complained."""
    opened = browser.new_context(**context).new_page()
    opened.set_default_timeout(1000 * patience.SECONDS)
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
    opened.goto(url)
    yield opened
    opened.context.close()
    host = "/".join(url.split("/")[:3])
    assert all(one.startswith((host, "data:", f"blob:{host}")) for one in requests)
    assert complaints == []


@pytest.fixture
def open_page(browser, server) -> Iterator[Callable]:
    """Opens the page in a window of one's own making."""
    opened = []

    def start(**context: object):
        page = watched(browser, server.url, **context)
        opened.append(page)
        found = page.__enter__()
        found.wait_for_selector("#model option[value=skin]", state="attached")
        return found

    yield start
    for page in opened:
        page.__exit__(None, None, None)


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture
def asked(page) -> list[str]:
    """Paths that the page asks for from now on."""
    paths: list[str] = []

    def note(request) -> None:
        if request.url.startswith("http"):
            paths.append(request.url.rpartition("/")[2])

    page.on("request", note)
    return paths


def choose(page, *files: bytes) -> None:
    """Choose files; their names are of the kind that nobody else should see."""
    page.set_input_files(
        "#file",
        [
            {"name": f"Canary^Birdie {number}.png", "mimeType": "", "buffer": data}
            for number, data in enumerate(files)
        ],
    )


def answered(page, *files: bytes, model: str = "skin") -> None:
    """Choose a model and files, and wait for the answer to the first."""
    page.select_option("#model", model)
    choose(page, *files or (SKIN,))
    page.wait_for_selector("#answer:visible")
    page.eval_on_selector("#picture", "image => image.decode()")
    # what is said of the evidence is there at once, its heat a little later
    page.wait_for_selector(
        '#evidence:not(:has-text("Shown")), #peak:not(:text-is("0 logits"))', state="attached"
    )


def drawn_anew(page) -> None:
    """Wait until the service has drawn the picture through the window that is now in force."""
    page.wait_for_selector('#picture[src^=blob]:not([style*="windowing"])')


@contextmanager
def time_stands_still(page) -> Iterator[Callable[[int], None]]:
    """For the page no time passes but the milliseconds that what is yielded is called with."""
    # what it has planned so far comes first: the clock to come knows nothing of that
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 500))")
    page.clock.install()
    page.clock.pause_at(time.time() + 3600)
    yield page.clock.run_for
    page.clock.resume()


def ramp(**attributes: object) -> bytes:
    """A chest film of 12 bits that rises from 0 at its left edge to 4095 at the right."""
    pixels = np.tile(np.linspace(0, 4095, 512).astype(np.uint16), (256, 1))
    return as_bytes(make_dicom(pixels, bits_stored=12, **attributes))


def drawn(page) -> np.ndarray:
    """Pixels of the picture as the service drew it: gray, (H, W)."""
    width, height, values = page.evaluate(
        """async () => {
            const image = document.querySelector("#picture");
            await image.decode();
            const [width, height] = [image.naturalWidth, image.naturalHeight];
            const canvas = Object.assign(document.createElement("canvas"), { width, height });
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const { data } = context.getImageData(0, 0, width, height);
            return [width, height, Array.from(data.filter((_, at) => at % 4 === 0))];
        }"""
    )
    return np.array(values, np.uint8).reshape(height, width)


def seen(page, selector: str = "#stage") -> np.ndarray:
    """What is on the screen there: BGR, (H, W, 3)."""
    shot = page.locator(selector).screenshot()
    return cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR)


def box(page, selector: str) -> tuple[float, float, float, float]:
    """Left, top, width and height on the screen."""
    found = page.locator(selector).bounding_box()
    return found["x"], found["y"], found["width"], found["height"]


def middle(page, selector: str = "#stage") -> tuple[float, float]:
    left, top, width, height = box(page, selector)
    return left + width / 2, top + height / 2
