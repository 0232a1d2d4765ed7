"""KServe's open inference protocol: health and what a model takes and gives."""

import pytest


def test_a_running_service_is_live_and_ready(client):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


def test_without_models_it_is_live_and_not_ready(serve_here, tmp_path):
    client = serve_here(tmp_path)

    assert client.get("/v2/health/live").status_code == 200
    answer = client.get("/v2/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"ready": False})


def test_a_model_says_what_it_takes_and_gives(client):
    answer = client.get("/v2/models/skin")

    assert answer.json() == {
        "name": "skin",
        "versions": ["1.0.0"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 224, 224, 3]}],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "cams", "datatype": "FP32", "shape": [-1, 3, 14, 14]},
            {"name": "embedding", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }


@pytest.mark.parametrize("name", ["brain", "..", "%00"])
def test_an_unknown_model_is_not_found(client, name):
    answer = client.get(f"/v2/models/{name}")

    assert answer.status_code == 404
    assert answer.json()["error"]["message"]
