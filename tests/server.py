"""The service for tests and soaks: as a real server, or in this process."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
from starlette.testclient import TestClient

from tests import patience

ROOT = Path(__file__).parents[1]

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")


def in_this_process() -> TestClient:
    """The service as the environment has it: no network, and none of BentoML's own routes."""
    from service.api import CareService, app
    from service.front_desk import FrontDesk

    CareService()
    return TestClient(FrontDesk(app))


def free_port() -> int:
    """A port below those that systems give to whoever asks for any, so that it stays free."""
    dice = random.SystemRandom()  # not the same ports in each of the processes that run tests
    while True:
        port = dice.randrange(20_000, 32_000)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


class Server:
    """`care serve` on a free port of this machine.

    Attributes:
        url: Where it answers.
        log: What it has written to stdout and stderr.
        folder: Where it may leave files: temporary ones, and BentoML's home.
    """

    def __init__(self, models: Path, log: Path, **settings: object) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self.folder = log.parent / "left"
        own = {"TMPDIR": self.folder / "tmp", "BENTOML_HOME": self.folder / "bentoml"}
        for path in own.values():
            path.mkdir(parents=True)
        command = [sys.executable, "-m", "cli", "serve", "--models", str(models)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=ROOT,
                env=os.environ
                | {name: str(path) for name, path in own.items()}
                | {f"CARE_{name.upper()}": str(value) for name, value in settings.items()},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def family(self) -> list[psutil.Process]:
        """Its processes that run now: BentoML's, and those that decode."""
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    def wait(self) -> None:
        """Wait until it answers health checks, ready or not."""
        deadline = time.monotonic() + patience.SECONDS
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

    def ended(self) -> int:
        """Wait for it to end by itself; its exit code."""
        return self._process.wait(patience.SECONDS)

    def refuses(self) -> bool:
        """Whether nobody is let in any more."""
        host, port = self.url.removeprefix("http://").split(":")
        try:
            socket.create_connection((host, int(port)), patience.SECONDS).close()
        except ConnectionRefusedError:
            return True
        return False

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Its decoders stand still: what they are given, or have, is under way until the end."""
        decoders = [one for one in self.family if "imaging.isolation" in one.cmdline()]
        assert decoders, "there are none before the first compressed film"
        for decoder in decoders:
            decoder.suspend()
        try:
            yield
        finally:
            for decoder in decoders:
                with suppress(psutil.NoSuchProcess):  # what failed within is to be told, not this
                    decoder.resume()

    def stop(self) -> None:
        """End it and its children, which share its process group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@contextmanager
def started(models: Path, own: Path, **settings: object) -> Iterator[Server]:
    """A server while it is needed; its log and what it leaves are in `own`."""
    running = Server(models, own / "log.txt", **settings)
    try:
        running.wait()
        yield running
    finally:
        running.stop()
