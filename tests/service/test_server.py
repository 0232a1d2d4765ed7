"""What only the real server shows: BentoML's routes around ours, the log, the metrics."""

import json
import re
import shutil
import socket
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import httpx
import numpy as np

from tests import patience
from tests.models_factory import square_model
from tests.server import started
from tests.service.pictures import compressed, film, png, square

NAME = "Canary^Birdie"
SECRETS = ("canary", "birdie", "19471103", "id-4711-9")


def test_the_server_is_alive_ready_and_measured(server):
    assert all(
        patience.get(f"{server.url}/{probe}").status_code == 200
        for probe in ("livez", "healthz", "readyz")
    )

    answer = patience.post(
        f"{server.url}/classify", files={"image": film(square(200, 160, 20, 30))}
    )

    assert answer.status_code == 200
    metrics = patience.get(f"{server.url}/metrics").text
    assert 'care_predictions_total{label="square",model="chest"}' in metrics
    assert 'care_model_ready{model="chest"} 1.0' in metrics
    assert "care_stage_seconds_bucket" in metrics
    assert 'care_requests_total{key="-",route="/classify",status="200"}' in metrics
    assert 'care_provider{model="chest",provider="cpu"} 1.0' in metrics
    assert 'bentoml_service_request_total{endpoint="/classify"' in metrics


def test_the_page_and_not_bentomls_own_is_at_the_root(server):
    page = patience.get(server.url)

    assert page.headers["Content-Type"].startswith("text/html")
    assert "Not a medical device" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_paths_bentoml_would_serve_otherwise_are_ours(server):
    for method, path, status in (
        ("GET", "/docs.json", 404),
        ("GET", "/static_content/index.css", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/classify", 405),
        ("POST", "/metrics", 405),
    ):
        answer = patience.request(method, server.url + path)
        assert answer.status_code == status
        assert answer.json()["error"]["request_id"] == answer.headers["X-Request-ID"]


def test_what_can_be_got_can_be_asked_for_its_head(server):
    documented = patience.get(f"{server.url}/openapi.json").json()["paths"]
    paths = {path for path, operations in documented.items() if "get" in operations}
    paths = {path.format(name="skin") for path in paths} | {"/", "/web/app.js", "/openapi.json"}
    with httpx.Client(base_url=server.url, timeout=patience.SECONDS) as client:
        for path in sorted(paths):
            whole, head = client.get(path), client.head(path)
            assert (head.status_code, head.content) == (200, b""), path
            assert head.headers["Content-Type"] == whole.headers["Content-Type"]
        assert client.head("/nowhere").status_code == 404
        assert client.head("/classify").status_code == 405


def test_an_upload_over_the_limit_is_refused_while_it_is_sent(server):
    def chunks():
        yield b'--e\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(80):
            yield bytes(1_000_000)

    answer = patience.post(
        f"{server.url}/classify",
        content=chunks(),
        headers={"Content-Type": "multipart/form-data; boundary=e"},
    )

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_large"


def test_an_announced_upload_over_the_limit_is_refused_before_it_is_sent(server):
    host, port = server.url.removeprefix("http://").split(":")
    head = (
        "POST /classify HTTP/1.1\r\nHost: care\r\nContent-Type: multipart/form-data; boundary=e\r\n"
        "Content-Length: 1000000000000\r\n\r\n"
    )

    with socket.create_connection((host, int(port)), timeout=patience.SECONDS) as line:
        line.sendall(head.encode())
        answer = line.recv(100)

    assert answer.startswith(b"HTTP/1.1 413")


def test_health_is_answered_while_large_pictures_are_read(server):
    large = png(np.zeros((9000, 9000), np.uint8))
    post = {"files": {"image": large}, "data": {"model": "skin"}}

    def overtakes() -> bool:
        with ThreadPoolExecutor(8) as pool:
            busy = [pool.submit(patience.post, f"{server.url}/classify", **post) for _ in range(8)]
            wait(busy, return_when=FIRST_COMPLETED)

            assert patience.get(f"{server.url}/livez").status_code == 200
            in_time = not all(future.done() for future in busy)
        assert {future.result().status_code for future in busy} == {200}
        return in_time

    assert any(overtakes() for _ in range(3))  # this process may have to wait for a core, too


def test_a_client_that_leaves_early_harms_nobody(server):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
            b"Content-Type: multipart/form-data; boundary=e\r\n\r\n--e\r\n"
        )

    assert patience.get(f"{server.url}/readyz").status_code == 200
    assert "Traceback" not in server.log
    assert "internal_error" not in server.log


def test_a_patient_named_in_a_file_appears_nowhere_else(server):
    pixels = square(200, 160, 20, 30)
    identity = {"PatientName": NAME, "PatientID": "ID-4711-9", "PatientBirthDate": "19471103"}
    identity |= {"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.5"}
    good = film(pixels, **identity)
    packed = compressed(good)
    bad = [
        packed,
        packed[:-700],
        good[: len(good) // 2],
        good[:900],
        film(pixels, **identity, BodyPartExamined="KNEE"),
        film(pixels, **identity, BitsAllocated=9),
    ]
    answers = []
    for data in (good, *bad):
        files = {"image": (f"{NAME}.dcm", data, "application/dicom")}
        for options in ({}, {"model": "chest"}, {"model": "chest", "force": "1"}):
            answers.append(patience.post(f"{server.url}/classify", files=files, data=options))
        for output in ("overlay", "heatmap", "json", "layers"):
            options = {"model": "chest", "output": output, "max_side": "64"}
            answers.append(patience.post(f"{server.url}/explain", files=files, data=options))
        answers.append(patience.post(f"{server.url}/picture", files=files))
        answers.append(
            patience.post(f"{server.url}/classify_batch", files=[("image", files["image"])] * 2)
        )
        # what goes back in the study of whoever sent it may name the patient; nothing else may
        patience.post(f"{server.url}/explain", files=files, data={"output": "dicom"})
        path = f"/{NAME}?PatientID=ID-4711-9"
        answers.append(
            patience.post(server.url + path, files=files, headers={"X-Request-ID": NAME})
        )
    assert {answer.status_code for answer in answers} >= {200, 400, 404, 422}
    assert all(answer.status_code < 500 for answer in answers)
    seen = [answer.content + str(answer.headers).encode() for answer in answers]
    seen += [server.log.encode(), patience.get(f"{server.url}/metrics").content]
    left = [path for path in server.folder.rglob("*") if path.is_file()]
    seen += [str(path).encode() + path.read_bytes() for path in left]
    for secret in SECRETS:
        assert not any(secret.encode() in text.lower() for text in seen)


def test_each_request_is_one_line_in_the_log(server):
    for request_id, path in (("first-line", "/models"), ("second-line", "/Canary/Birdie")):
        patience.get(server.url + path, headers={"X-Request-ID": request_id})

    # a line is written once its answer has been sent
    patience.until(lambda: "first-line" in server.log and "second-line" in server.log)
    lines = [line for line in server.log.splitlines() if re.search("(first|second)-line", line)]
    first, second = map(json.loads, lines)
    assert (first["status"], first["route"]) == (200, "/models")
    assert (second["status"], second["route"], second["code"]) == (404, "-", "not_found")


def test_a_worker_that_ends_alone_is_followed_by_another(models_folder, tmp_path):
    with started(models_folder, tmp_path) as server:
        _, worker, *_ = server.family
        worker.terminate()
        worker.wait(patience.SECONDS)
        server.wait()

        assert patience.get(f"{server.url}/readyz").status_code == 200


def test_a_broken_model_keeps_the_service_from_being_ready(tmp_path):
    models = tmp_path / "models"
    square_model(models, "good")
    broken = square_model(models, "tampered")
    with (broken / "model.onnx").open("ab") as file:
        file.write(b"\0")
    shutil.copytree(broken, models / "odd")
    (models / "odd" / "card.json").write_text(json.dumps({"name": "odd"}))
    with started(models, tmp_path) as server:
        post = {"files": {"image": film(square(64, 64, 8, 8))}}

        assert patience.get(f"{server.url}/livez").status_code == 200
        not_ready = patience.get(f"{server.url}/readyz")
        assert not_ready.status_code == 503
        assert "tampered: model.onnx has digest" in not_ready.text
        assert [one["name"] for one in patience.get(f"{server.url}/models").json()["models"]] == [
            "good"
        ]
        for options, status in (({"model": "good"}, 200), ({"model": "tampered"}, 503), ({}, 503)):
            answer = patience.post(f"{server.url}/classify", data=options, **post)
            assert answer.status_code == status
            if status == 503:
                assert answer.json()["error"]["code"] == "model_unavailable"
        assert "model tampered is broken" in server.log
        assert "model odd is broken" in server.log
