"""What is timed against each other does the same work."""

import base64
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
import torch

from benchmarks import film_to_input, maps
from benchmarks.film_to_input import film, to_bytes
from benchmarks.serving import Server, ratios
from tests.models_factory import square_model
from training.network import build_network


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Benchmarks set OpenCV's and torch's threads; the tests behind them have theirs again."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.mark.parametrize("way", film_to_input.WAYS)
def test_every_way_makes_the_same_input_of_a_film(way: str):
    data = to_bytes(film(600, 500))
    square = film_to_input.WAYS[way](data)

    assert square.shape == (224, 224, 3)
    assert square.std() > 10
    # a step of 8 bits where the window ends, and one of rounding
    np.testing.assert_allclose(square, film_to_input.ours(data).astype(int), atol=2)


def test_a_film_has_as_many_pixels_as_asked_for():
    dataset = film(60, 50)

    assert (dataset.Rows, dataset.Columns, len(dataset.PixelData)) == (60, 50, 60 * 50 * 2)


def test_logits_alone_are_those_of_the_whole_graph(tmp_path):
    graph = onnx.load(square_model(tmp_path) / "model.onnx")
    alone = maps.logits_alone(graph)
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    [expected] = maps.session(graph).run(["logits"], {"images": images})

    assert [output.name for output in alone.graph.output] == ["logits"]
    assert len(alone.graph.node) < len(graph.graph.node)
    np.testing.assert_array_equal(
        maps.session(alone).run(["logits"], {"images": images})[0], expected
    )


def test_maps_out_of_the_graph_are_those_of_both_libraries():
    pytest.importorskip("pytorch_grad_cam")
    pytest.importorskip("captum")
    from benchmarks import gradcam

    torch.manual_seed(0)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    ways = gradcam.ways(build_network("resnet18", 3).eval(), image)

    assert ways[gradcam.OURS]([0, 1, 2]).max() > 0
    assert gradcam.disagreement(ways, [0, 1, 2], 64) < gradcam.AGREED
    swapped = ways | {gradcam.OURS: lambda labels: ways[gradcam.OURS](labels[::-1])}
    assert gradcam.disagreement(swapped, [0, 1, 2], 64) > gradcam.AGREED


def test_both_ways_to_explain_answer_with_probabilities_and_an_overlay_of_one_size(one_thread):
    pytest.importorskip("pytorch_grad_cam")
    from benchmarks import explain

    data = to_bytes(film(1200, 1000))
    answers = [json.loads(way(data)) for way in (explain.ours(), explain.usual())]
    overlays = [
        cv2.imdecode(np.frombuffer(base64.b64decode(one["overlay"]), np.uint8), cv2.IMREAD_COLOR)
        for one in answers
    ]

    assert [overlay.shape for overlay in overlays] == [(1024, 853, 3)] * 2
    assert len(answers[0]["predictions"]) == len(answers[1]["probabilities"])
    assert sum(answers[1]["probabilities"]) == pytest.approx(1)


def test_the_servers_ratios_set_ours_against_the_right_alternative():
    costs = {
        f"{kind} {way}": cost
        for kind, scale in (("film ", 10), ("photo", 1))
        for way, cost in (
            ("raw loop", 2.0 * scale),
            ("CARE /classify", 2.2 * scale),
            ("CARE /classify, 8 clients", 2.6 * scale),
            ("CARE /explain", 3.0 * scale),
            ("FastAPI + torch classify", 11.0 * scale),
            ("FastAPI + torch explain", 27.0 * scale),
        )
    }

    found = list(ratios(costs))

    assert [one.times for one in found] == pytest.approx([1.1, 1.3, 3 / 2.2, 5, 9] * 2)
    assert [one.target for one in found][:5] == [
        "at most 1.25: met",
        "at most 1.25: **missed**",
        "at most 1.7: met",
        "none",
        "at least 8: met",
    ]


def test_what_some_rounds_of_a_server_came_to_is_the_middle_of_each_figure():
    from benchmarks.clients import middle
    from benchmarks.serving import Answered

    assert middle([Answered(3, 10), Answered(1, 30), Answered(2, 20)]) == Answered(2, 20)


@pytest.fixture
def listener() -> Iterator[SimpleNamespace]:
    """A server that keeps what it is sent: for each connection, a body for each request."""
    kept = SimpleNamespace(connections=[], status=200)

    class Keeping(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.sent: list[bytes] = []
            kept.connections.append(self.sent)

        def do_POST(self) -> None:
            self.sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(kept.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Keeping) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kept.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield kept
        server.shutdown()


def test_requests_are_counted_and_shared_among_clients(listener):
    server = Server(SimpleNamespace(pid=os.getpid()), listener.url, {"model": "m"})

    found = server.answered("/explain", b"film", 12, 4, format="jpeg")

    assert [len(sent) for sent in listener.connections] == [3] * 4
    [body] = {body for sent in listener.connections for body in sent}
    assert all(part in body for part in (b"film", b'name="model"', b"m", b"jpeg"))
    assert found.rate > 0
    assert found.cost >= 0


def test_an_answer_that_is_none_ends_the_measurement(listener):
    listener.status = 503

    with pytest.raises(RuntimeError, match="503"):
        Server(SimpleNamespace(pid=os.getpid()), listener.url, {}).cost("/explain", b"film", 2)
