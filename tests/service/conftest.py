"""The service as a test sees it: in this process for most, as a real server for some."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from models.card import Accepts
from tests.models_factory import square_model
from tests.service.pictures import png, square

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

CHEST = Accepts(modalities=("CR", "DX"), body_parts=("CHEST",), views=("AP", "PA"))
SKIN = Accepts(modalities=("XC", "DMS"))


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory) -> Path:
    """Two models: `chest` for films, `skin` for color photographs; both answer to a square."""
    folder = tmp_path_factory.mktemp("models")
    square_model(folder, "chest", accepts=CHEST, threshold=0.05)
    square_model(
        folder, "skin", accepts=SKIN, labels=("nevus", "melanoma", "square"), threshold=0.05
    )
    return folder


@pytest.fixture
def serve_here(monkeypatch) -> Callable[..., TestClient]:
    """Puts the service to work in this process: no network, and none of BentoML's own routes."""
    from service.api import CareService, app
    from service.front_desk import FrontDesk

    def start(models: Path, **settings: object) -> TestClient:
        monkeypatch.setenv("CARE_MODELS", str(models))
        for name, value in settings.items():
            monkeypatch.setenv(f"CARE_{name.upper()}", str(value))
        CareService()
        return TestClient(FrontDesk(app))

    return start


@pytest.fixture
def client(serve_here, models_folder) -> TestClient:
    return serve_here(models_folder)


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A PNG of a bright square on black."""
    return png(square(300, 500, 60, 420))


class Server:
    """`bentoml serve` on a free port of this machine.

    Attributes:
        url: Where it answers.
        log: What it has written to stdout and stderr.
        folder: Where it may leave files: temporary ones, and BentoML's home.
    """

    def __init__(self, models: Path, log: Path, **settings: object) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self.folder = log.parent / "left"
        own = {"TMPDIR": self.folder / "tmp", "BENTOML_HOME": self.folder / "bentoml"}
        for path in own.values():
            path.mkdir(parents=True)
        command = [sys.executable, "-m", "bentoml", "serve", "service.api:CareService"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=Path(__file__).parents[2],
                env=os.environ
                | {"CARE_MODELS": str(models), "BENTOML_DO_NOT_TRACK": "True"}
                | {name: str(path) for name, path in own.items()}
                | {f"CARE_{name.upper()}": str(value) for name, value in settings.items()},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait(self) -> None:
        """Wait until it answers health checks, ready or not."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                httpx.get(f"{self.url}/healthz").raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.2)
            else:
                return
        raise AssertionError(f"the server did not start:\n{self.log}")

    def terminate(self) -> None:
        """Ask it to end, as an orchestrator does: its first process alone hears of it."""
        self._process.terminate()

    def ended(self, seconds: float) -> int:
        """Wait for it to end by itself; its exit code."""
        return self._process.wait(seconds)

    def stop(self) -> None:
        """End it and its children, which share its process group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture(scope="session")
def server(models_folder, tmp_path_factory) -> Iterator[Server]:
    running = Server(models_folder, tmp_path_factory.mktemp("server") / "log.txt")
    try:
        running.wait()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium that asks nobody anything of its own accord."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=chromium,
            args=[
                *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                "--disable-sync",
            ],
        )
        yield opened
        opened.close()
