"""What was asked to run the models does run them, or the service is not ready and says why."""

import onnxruntime
import pytest
from fastapi import HTTPException

from models.classifier import session_options
from models.errors import BrokenModel
from models.store import load_one
from service.api import app
from tests.service.pictures import png, square

without_gpu = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is a GPU"
)


def test_a_cpu_runs_models_unless_asked_otherwise(models_folder):
    assert load_one(models_folder, "chest").active == "cpu"


@without_gpu
@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "tensorrt-fp16"])
def test_a_fall_back_to_the_cpu_is_no_secret(serve_here, models_folder, provider):
    client = serve_here(models_folder, provider=provider)

    with pytest.raises(HTTPException) as refused:
        app.state.service.__is_ready__()
    assert refused.value.status_code == 503
    assert f"chest: {provider} was asked for, but ONNX Runtime uses cpu" in refused.value.detail
    metrics = client.get("/metrics").text
    assert 'care_provider{model="chest",provider="cpu"} 1.0' in metrics
    assert 'care_model_ready{model="chest"} 0.0' in metrics
    answer = client.post(
        "/classify", files={"image": png(square(64, 64, 8, 8))}, data={"model": "chest"}
    )
    assert answer.status_code == 503


@without_gpu
def test_the_cpu_stands_in_for_a_gpu_that_nobody_insisted_on(
    serve_here, models_folder, monkeypatch
):
    monkeypatch.setattr("service.settings.best_provider", lambda: "cuda")
    client = serve_here(models_folder)
    assert app.state.service.__is_ready__()
    answer = client.post(
        "/classify", files={"image": png(square(64, 64, 8, 8))}, data={"model": "chest"}
    )
    assert answer.status_code == 200


def test_a_picture_may_use_the_cores_that_the_settings_say(
    serve_here, models_folder, monkeypatch: pytest.MonkeyPatch
):
    cores = []
    monkeypatch.setattr(
        "models.classifier.session_options",
        lambda threads: cores.append(threads) or session_options(threads),
    )

    serve_here(models_folder, threads=3)

    assert cores == [3, 3]


@pytest.mark.parametrize(("provider", "half"), [("tensorrt", False), ("tensorrt-fp16", True)])
def test_tensorrt_is_told_how_precisely_to_compute(models_folder, monkeypatch, provider, half):
    told = {}

    def session(graph, options, providers):
        told.update(providers)
        raise RuntimeError("no GPU")

    known = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)

    with pytest.raises(BrokenModel, match="no GPU"):
        load_one(models_folder, "chest", provider=provider, most=8)
    assert list(told) == known
    settings = told["TensorrtExecutionProvider"]
    assert settings["trt_fp16_enable"] is half
    assert settings["trt_profile_max_shapes"].startswith("images:8x")


def test_batches_change_no_answer(serve_here, models_folder):
    picture = png(square(300, 500, 60, 420))
    alone, shared = (
        serve_here(models_folder, batch=batch)
        .post("/classify", files={"image": picture}, data={"model": "skin"})
        .json()["predictions"]
        for batch in (1, 8)
    )

    assert alone == shared
