"""The service as a test sees it: in this process for most, as a real server for some."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from models.card import Accepts
from models.store import shipped_models
from tests import patience
from tests.models_factory import square_model
from tests.server import Server, in_this_process, started
from tests.service.pictures import png, square

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
    """Puts the service to work in this process."""

    def start(models: Path, **settings: object) -> TestClient:
        monkeypatch.setenv("CARE_MODELS", str(models))
        for name, value in settings.items():
            monkeypatch.setenv(f"CARE_{name.upper()}", str(value))
        return in_this_process()

    return start


@pytest.fixture
def client(serve_here, models_folder) -> TestClient:
    return serve_here(models_folder)


@pytest.fixture
def grown() -> Callable[..., float]:
    """Says by how much a sample of the metrics of this process has grown since the test began."""

    def samples() -> dict[tuple[str, frozenset], float]:
        found = [one for family in REGISTRY.collect() for one in family.samples]
        return {(one.name, frozenset(one.labels.items())): one.value for one in found}

    before = samples()

    def grown(name: str, **labels: str) -> float:
        key = name, frozenset(labels.items())
        return samples().get(key, 0) - before.get(key, 0)

    return grown


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A PNG of a bright square on black."""
    return png(square(300, 500, 60, 420))


@pytest.fixture(scope="session")
def server(models_folder, tmp_path_factory) -> Iterator[Server]:
    with started(models_folder, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Iterator[Server]:
    """A server with the models of the repository."""
    with started(shipped_models(), tmp_path_factory.mktemp("shipped")) as running:
        yield running


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
            timeout=1000 * patience.SECONDS,
            args=[
                *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                "--disable-sync",
            ],
        )
        yield opened
        opened.close()
