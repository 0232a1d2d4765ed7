"""What a request costs the service, against the bare loop and against what one would write instead.

    python -m benchmarks.serving [--quick] [--models DIR] [--model NAME]

CPU-seconds of the server's processes per request, in turn on the same cores and with as many
clients at once, each of which keeps its connection: CARE with a shipped model, as `care serve`
starts it; the raw loop (reading a file, digest, decoding, ONNX Runtime; no HTTP, no answer); and
FastAPI with torch and pytorch-grad-cam on a MobileNetV2. CARE is also asked by more clients than
it has cores, so that requests wait. Clients send bytes made beforehand, to take little of the
caches; what they ask first in each turn does not count. Full films are generated, 3000 x 2500 of 12
bits; the other picture is a JPEG of 224 pixels. The last line says how many times cheaper CARE
explains a film than the alternative.
"""

import argparse
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import cv2
import httpx
import psutil

from benchmarks.film_to_input import film, to_bytes
from benchmarks.measure import Ratio, ratio_table
from imaging.reading import read_image, use_one_core
from models.store import load_one, shipped_models

ROOT = Path(__file__).parent.parent
SIZE = 224
CLIENTS = 2
MANY = 8  # clients at once, so that requests wait
CARE = ["cli", "serve", "--host", "127.0.0.1", "--port", "PORT"]
OTHER = ["benchmarks.serving", "--alternative", "PORT"]
"""The two servers, as modules with their words."""
RAW_LOOP = 1.25  # what /classify may cost at most, in raw loops
OVERLAYS = {"": 1.7, " as JPEG": 1.25}  # what /explain of a film may cost at most, in /classify
CHEAPER = 8.0  # how many times cheaper than the alternative /explain has to be, for a film


class Answered(NamedTuple):
    """What answering some requests came to.

    Attributes:
        cost: CPU-milliseconds per request, in all of the server's processes.
        rate: Requests per second.
    """

    cost: float
    rate: float


class Server:
    """A server under measurement.

    Attributes:
        url: Where it answers.
    """

    def __init__(self, process: subprocess.Popen, url: str, fields: dict[str, str]) -> None:
        self.url = url
        self._process = psutil.Process(process.pid)
        self._fields = fields

    def cost(
        self, path: str, data: bytes, requests: int, clients: int = CLIENTS, **fields: str
    ) -> float:
        """CPU-milliseconds per request in all of its processes, once each client has asked."""
        self.answered(path, data, clients, clients, **fields)
        return self.answered(path, data, requests, clients, **fields).cost

    def answered(
        self, path: str, data: bytes, requests: int, clients: int, **fields: str
    ) -> Answered:
        """Send a file many times, by so many clients at once.

        Clients share the cores with what they measure: they send what was made beforehand.
        """
        url = self.url + path
        made = httpx.Request("POST", url, files={"image": data}, data=self._fields | fields)
        body, headers = made.read(), {"Content-Type": made.headers["Content-Type"]}

        def ask(requests: int) -> None:
            with closing(HTTPConnection(made.url.host, made.url.port, timeout=120)) as client:
                for _ in range(requests):
                    client.request("POST", path, body, headers)
                    with client.getresponse() as answer:
                        content = answer.read()
                    if answer.status != HTTPStatus.OK:
                        raise RuntimeError(f"{url}: {answer.status} {content[:200]!r}")

        each = max(1, requests // clients)
        with ThreadPoolExecutor(clients) as pool:
            before, start = self._cpu(), time.perf_counter()
            list(pool.map(ask, [each] * clients))
            cpu, taken = self._cpu() - before, time.perf_counter() - start
        return Answered(1000 * cpu / (each * clients), each * clients / taken)

    def _cpu(self) -> float:
        family = [self._process, *self._process.children(recursive=True)]
        return sum(sum(one.cpu_times()[:2]) for one in family)


@contextmanager
def serving(command: list[str], probe: str, **fields: str) -> Iterator[Server]:
    """Start a server; `PORT` in its command becomes a free one. End it after use."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", *(port if word == "PORT" else word for word in command)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                httpx.get(url + probe).raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield Server(process, url, fields)
    finally:
        process.terminate()
        process.wait()


def raw_loop(models: Path, model: str) -> Callable[[Path, int], float]:
    """The work itself: CPU-milliseconds per file, of reading, digest, decoding and ONNX Runtime."""
    classifier = load_one(models, model)
    use_one_core()

    def cost(file: Path, requests: int) -> float:
        def work(_: object) -> None:
            data = file.read_bytes()
            hashlib.sha256(data).hexdigest()
            square = classifier.card.preprocessing(read_image(data))[0]
            classifier.run(square[None])

        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(work, range(CLIENTS)))
            before = time.process_time()
            list(pool.map(work, range(requests)))
            return 1000 * (time.process_time() - before) / requests

    return cost


def alternative() -> Any:
    """FastAPI around the usual stack, as its manual has it."""
    from fastapi import FastAPI, File, Response, UploadFile

    from benchmarks.usual import UsualStack

    stack = UsualStack(classes=7)
    one_at_a_time = threading.Lock()  # GradCAM keeps what its hooks saw in itself
    app = FastAPI()

    @app.post("/classify")
    def classify(image: UploadFile = File()) -> dict[str, list[float]]:  # noqa: B008 - FastAPI's way
        _, images = stack.read(image.file.read())
        return {"probabilities": stack.classify(images)}

    @app.post("/explain")
    def explain(image: UploadFile = File()) -> Response:  # noqa: B008 - FastAPI's way
        shown, images = stack.read(image.file.read())
        with one_at_a_time:
            heatmap, _ = stack.heatmap(images)
        return Response(stack.overlay(shown, heatmap), media_type="image/png")

    return app


def ratios(costs: Mapping[str, float]) -> Iterator[Ratio]:
    """What the page says of the costs by name."""
    for kind, called in (("film ", "a full film"), ("photo", "a JPEG of 224 pixels")):
        for clients in (CLIENTS, MANY):
            way = f"{kind} CARE /classify" + (f", {MANY} clients" if clients == MANY else "")
            yield Ratio(
                f"/classify with {called}, {clients} clients, CPU time",
                "raw loop",
                costs[way] / costs[f"{kind} raw loop"],
                "the cost",
                at_most=RAW_LOOP,
            )
        for form, most in OVERLAYS.items():
            if (way := f"{kind} CARE /explain{form}") in costs:
                yield Ratio(
                    f"/explain{form} with {called}, CPU time",
                    "/classify",
                    costs[way] / costs[f"{kind} CARE /classify"],
                    "the cost",
                    at_most=most if kind == "film " else None,
                )
        for path in ("classify", "explain"):
            yield Ratio(
                f"/{path} with {called}, CPU time",
                "FastAPI + torch + pytorch-grad-cam",
                costs[f"{kind} FastAPI + torch {path}"] / costs[f"{kind} CARE /{path}"],
                "as cheap",
                at_least=CHEAPER if (kind, path) == ("film ", "explain") else None,
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer requests, in about a minute")
    parser.add_argument("--models", type=Path, default=shipped_models(), help="folder of models")
    parser.add_argument("--model", default="chest-xray")
    parser.add_argument("--alternative", metavar="PORT", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alternative:
        import uvicorn

        uvicorn.run(alternative(), port=arguments.alternative, log_level="error")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end too
    os.environ["CARE_MODELS"] = str(arguments.models.resolve())
    # The system counts CPU time in hundredths of a second: what is cheap is asked more often.
    rounds, few, films, photos, many = (3, 10, 10, 20, 40)
    if not arguments.quick:
        rounds, few, films, photos, many = (7, 15, 80, 100, 400)
    full = to_bytes(film())
    shades = cv2.resize(read_image(full).pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    photo = cv2.imencode(".jpg", shades)[1].tobytes()
    raw = raw_loop(arguments.models, arguments.model)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(CARE, "/readyz", model=arguments.model, force="true") as care,
        serving(OTHER, "/openapi.json") as other,
    ):
        film_file, photo_file = Path(folder, "film"), Path(folder, "photo")
        film_file.write_bytes(full)
        photo_file.write_bytes(photo)
        ways: dict[str, Callable[[], float]] = {
            "film  raw loop": lambda: raw(film_file, films),
            "film  CARE /classify": lambda: care.cost("/classify", full, films),
            f"film  CARE /classify, {MANY} clients": lambda: care.cost(
                "/classify", full, films, MANY
            ),
            "film  CARE /explain": lambda: care.cost("/explain", full, films),
            "film  CARE /explain as JPEG": lambda: care.cost(
                "/explain", full, films, format="jpeg"
            ),
            "film  FastAPI + torch classify": lambda: other.cost("/classify", full, few),
            "film  FastAPI + torch explain": lambda: other.cost("/explain", full, few),
            "photo raw loop": lambda: raw(photo_file, many),
            "photo CARE /classify": lambda: care.cost("/classify", photo, many),
            f"photo CARE /classify, {MANY} clients": lambda: care.cost(
                "/classify", photo, many, MANY
            ),
            "photo CARE /explain": lambda: care.cost("/explain", photo, photos),
            "photo FastAPI + torch classify": lambda: other.cost("/classify", photo, photos),
            "photo FastAPI + torch explain": lambda: other.cost("/explain", photo, photos),
        }
        costs: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds + 1):  # the first one warms up
            for name, way in ways.items():
                costs[name].append(way())
    medians = {name: median(taken[1:]) for name, taken in costs.items()}
    print(f"CPU time per request, {CLIENTS} clients at once, median of {rounds} rounds")
    for name, taken in medians.items():
        print(f"  {name:<34}{taken:>9.2f} ms")
    for kind in ("film ", "photo"):
        classify = medians[f"{kind} CARE /classify"]
        print(
            f"{kind} /classify is {classify / medians[f'{kind} raw loop']:.2f} times the raw loop, "
            f"/explain {medians[f'{kind} CARE /explain'] / classify:.2f} times /classify"
        )
    jpeg = medians["film  CARE /explain as JPEG"] / medians["film  CARE /classify"]
    print(f"film  /explain as JPEG is {jpeg:.2f} times /classify")
    ratio = medians["film  FastAPI + torch explain"] / medians["film  CARE /explain"]
    print(ratio_table(ratios(medians)))
    print(f"ratio: {ratio:.1f}")


if __name__ == "__main__":
    main()
