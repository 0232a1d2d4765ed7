"""The shipped models say of a picture that it is unlike those they were trained on."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from imaging.image import Facts, MedicalImage
from imaging.overlay import encode
from imaging.reading import read_image
from models.store import load_one, shipped_models

MODELS = {"chest-xray": "kermany", "dermoscopy": "ham10000"}


def picture(pixels: np.ndarray) -> MedicalImage:
    height, width = pixels.shape[:2]
    return MedicalImage(pixels, Facts(kind="png", width=width, height=height))


def drawn_photograph(seed: int) -> np.ndarray:
    """Sky, ground, a house and a tree, with the grain of a camera."""
    random = np.random.default_rng(seed)
    scene = np.zeros((240, 320, 3), np.float32)
    horizon = int(random.integers(90, 160))
    scene[:horizon] = np.linspace((90, 140, 230), (190, 215, 240), horizon)[:, None]
    scene[horizon:] = random.integers(60, 140, 3)
    x = int(random.integers(30, 160))
    wall = random.integers(90, 230, 3).tolist()
    cv2.rectangle(scene, (x, horizon - 50), (x + 90, horizon + 30), wall, -1)
    roof = np.array([(x - 8, horizon - 50), (x + 45, horizon - 95), (x + 98, horizon - 50)])
    cv2.fillPoly(scene, [roof], random.integers(40, 180, 3).tolist())
    for row in range(2):
        cv2.rectangle(
            scene,
            (x + 12 + 42 * row, horizon - 35),
            (x + 34 + 42 * row, horizon - 8),
            (40, 50, 70),
            -1,
        )
    tree = int(random.integers(220, 300))
    cv2.rectangle(scene, (tree - 5, horizon - 20), (tree + 5, horizon + 40), (80, 55, 30), -1)
    for _ in range(60):
        center = random.normal((tree, horizon - 45), 16).astype(int).tolist()
        cv2.circle(scene, center, 9, (30, int(random.integers(80, 170)), 40), -1)
    return (scene + random.normal(0, 4, scene.shape)).clip(0, 255).astype(np.uint8)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (300, 260, 3), np.uint8)


def flagged(model: str, pictures: list[MedicalImage]) -> float:
    predictions = load_one(shipped_models(), model).classify(pictures)
    return float(np.mean([prediction.in_distribution is False for prediction in predictions]))


def some(folder: Path, names: list[str]) -> list[MedicalImage]:
    return [read_image(folder / "images" / name) for name in names]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("draw", [drawn_photograph, noise])
def test_drawn_photographs_and_noise_are_unlike_the_training_pictures(model, draw):
    assert flagged(model, [picture(draw(seed)) for seed in range(20)]) >= 0.9


@pytest.mark.parametrize(
    ("model", "other"), [("chest-xray", "ham10000"), ("dermoscopy", "kermany")]
)
def test_pictures_of_the_other_kind_are_unlike_the_training_pictures(model, other, care_data):
    names = sorted(path.name for path in (care_data / other / "images").iterdir())[::60]
    assert flagged(model, some(care_data / other, names)) >= 0.9


@pytest.mark.parametrize("model", MODELS)
def test_most_test_pictures_are_like_the_training_pictures(model, care_data):
    lists = Path(__file__).parents[2] / "training" / "splits" / f"{MODELS[model]}.csv"
    with lists.open(newline="") as file:
        names = [row["image"] for row in csv.DictReader(file) if row["split"] == "test"][::8]
    assert flagged(model, some(care_data / MODELS[model], names)) <= 0.15


def test_the_answer_the_picture_the_header_and_the_metrics_say_so(serve_here, grown):
    client = serve_here(shipped_models())
    files = {"image": encode(noise(0))}
    answer = client.post("/classify", files=files, data={"model": "dermoscopy"}).json()
    assert answer["in_distribution"] is False
    assert answer["distance"] > 0
    assert answer["remark"] == "unlike the training pictures"
    overlay = client.post("/explain", files=files, data={"model": "dermoscopy"})
    assert overlay.headers["X-Care-In-Distribution"] == "false"
    told = {
        answer: grown("care_in_distribution_total", model="dermoscopy", answer=answer)
        for answer in ("yes", "no")
    }
    assert told == {"yes": 0, "no": 2}


def test_a_model_without_statistics_does_not_say(client, picture):
    answer = client.post("/classify", files={"image": picture}, data={"model": "chest"}).json()
    assert answer["in_distribution"] is None
    assert answer["remark"] is None
