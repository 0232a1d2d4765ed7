"""From a folder of pictures to an answer: train, export, serve, ask, score; the models shipped."""

import csv
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from cli.main import app as cli
from models.card import ModelCard
from models.classifier import Classifier
from models.store import load_one, model_names, shipped_models
from tests.lesion_factory import lesion_run, lesion_set
from training.stability import CHANGES

ROOT = Path(__file__).parent.parent.parent


def care(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def trained(one_thread, tmp_path_factory) -> Path:
    """A data set, and the model made of it, both in one folder."""
    folder = tmp_path_factory.mktemp("whole-way")
    # left by a former model, and by an export that was killed
    for left in ("models/lesions", "models/.lesions.draft"):
        (folder / left).mkdir(parents=True)
        (folder / left / "LICENSE").write_text("the terms of other data")
    (folder / "models" / "lesions" / "notes.txt").write_text("of a person")
    run = lesion_run(lesion_set(folder))
    care("train", run, "--data", folder, "--folder", folder / "run")
    where = ("--data", folder, "--models", folder / "models")
    care("export", run, *where, "--folder", folder / "run", "--stability")
    care("evaluate", run, *where, "--out", folder / "report")
    return folder


def test_the_card_holds_what_evaluate_prints(trained):
    card = ModelCard.load(trained / "models" / "lesions" / "card.json")
    printed = json.loads((trained / "report" / "figures.json").read_text())
    assert card.figures["test"] == printed
    assert card.training["difference_from_float64"] < 1e-3
    assert card.labels == ("disc", "ring", "cross")
    page = (trained / "models" / "lesions" / "README.md").read_text()
    assert f"{printed['mean_class_accuracy']['value']:.3f}" in page
    assert "](reliability.svg)" in page
    assert "<svg" in (trained / "models" / "lesions" / "reliability.svg").read_text()
    assert set(card.figures["stability"]["changes"]) == set(CHANGES)
    assert all(f"| {change} |" in page for change in CHANGES)


def test_nothing_stays_of_a_former_model_but_what_people_put_beside_it(trained):
    files = {path.name for path in (trained / "models" / "lesions").iterdir()}
    made = {"README.md", "card.json", "distribution.npz", "model.onnx", "reliability.svg"}
    assert files == made | {"notes.txt"}
    assert {path.name for path in (trained / "models").iterdir()} == {"lesions"}


def test_evaluate_says_if_the_lists_are_not_those_of_the_training(trained):
    where = ("--data", trained, "--models", trained / "models")
    says = "not the lists that lesions was trained with"
    assert says not in care("evaluate", trained / "lesions.toml", *where)
    assert says in care("evaluate", trained / "lesions.toml", *where, "--set", "seed=5")


def test_pictures_of_elsewhere_are_measured_though_a_class_is_not_among_them(trained, tmp_path):
    elsewhere = lesion_set(tmp_path, counts={"disc": 6, "ring": 6})
    names = [path.name for path in sorted((elsewhere / "images").iterdir())]
    split = "image,split\n" + "".join(f"{name},test\n" for name in names)
    (elsewhere / "lists.csv").write_text(split)
    model = ("--models", trained / "models", "--set", f"data.split={elsewhere / 'lists.csv'}")
    settings = ("--set", "data.labels=[]", "--set", "data.keep.cross=1")
    settings += ("--set", "data.merge.blob=ring", "--out", tmp_path / "report")

    care("evaluate", trained / "lesions.toml", "--data", elsewhere, *model, *settings)

    told = json.loads((tmp_path / "report" / "figures.json").read_text())
    assert told["pictures"] == 12
    assert told["per_class"]["cross"]["recall"] is None
    assert 0 <= told["mean_class_accuracy"]["value"] <= 1


def test_the_service_answers_with_the_new_model(trained, monkeypatch):
    from service.api import CareService
    from service.api import app as service
    from service.front_desk import FrontDesk

    monkeypatch.setenv("CARE_MODELS", str(trained / "models"))
    CareService()
    client = TestClient(FrontDesk(service))
    picture = (trained / "images" / "disc-000.png").read_bytes()

    answer = client.post("/classify", files={"image": picture}, data={"model": "lesions"})

    assert answer.status_code == httpx.codes.OK
    told = {row["label"]: row["probability"] for row in answer.json()["predictions"]}
    assert set(told) == {"disc", "ring", "cross"}

    care(
        "score",
        trained / "images",
        "--model",
        "lesions",
        "--models",
        trained / "models",
        "--out",
        trained / "scores.csv",
        "--workers",
        0,
    )
    with (trained / "scores.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    for label, probability in told.items():
        assert float(rows["disc-000.png"][f"p_{label}"]) == probability


@pytest.mark.parametrize("name", ["chest-xray", "dermoscopy"])
def test_the_shipped_models_load_and_their_cards_are_complete(name):
    assert name in model_names(shipped_models())
    classifier = load_one(shipped_models(), name)
    folder = shipped_models() / name
    assert (folder / "model.onnx").stat().st_size < 15_000_000
    for file in ("README.md", "LICENSE"):
        assert "research" in (folder / file).read_text().lower()
    size = classifier.card.preprocessing.size
    cams = classifier.run(np.full((2, size, size, 3), 128, np.uint8)).cams
    assert np.isfinite(cams).all()
    assert (cams >= 0).all()


@pytest.mark.parametrize(
    ("name", "data", "least"), [("dermoscopy", "ham10000", 0.65), ("chest-xray", "kermany", 0.80)]
)
def test_a_sample_of_the_test_list_is_answered_as_the_card_says(name, data, least, care_data):
    """Some pictures of each class of the project's own test list; the card has the whole list."""
    from imaging.reading import read_image

    folder = shipped_models() / name
    card = ModelCard.load(folder / "card.json")
    assert card.figures["test"]["mean_class_accuracy"]["value"] >= least
    with (ROOT / "training" / "splits" / f"{data}.csv").open(newline="") as file:
        held_out = {row["image"] for row in csv.DictReader(file) if row["split"] == "test"}
    with (care_data / data / "labels.csv").open(newline="") as file:
        labels = {row["image"]: row["label"] for row in csv.DictReader(file)}
    classifier = Classifier.load(folder)
    recalls = []
    for label in card.labels:
        names = sorted(image for image in held_out if labels[image] == label)[:40]
        pictures = [read_image(care_data / data / "images" / image) for image in names]
        hits = [prediction.top == label for prediction in classifier.classify(pictures)]
        low = card.figures["test"]["per_class"][label]["recall"]["low"]
        assert np.mean(hits) >= low - 0.25, label
        recalls.append(np.mean(hits))
    assert np.mean(recalls) >= least - 0.1


def test_an_evaluation_is_written_down_and_compared_with_itself(trained):
    report = trained / "report"
    for plot in ("confusion.png", "reliability.png", "roc.png"):
        assert (report / plot).read_bytes().startswith(b"\x89PNG")
    told = care("compare", report, report, "--out", trained / "compared.json")
    assert "mean class accuracy" in told
    compared = json.loads((trained / "compared.json").read_text())
    assert {row["difference"] for row in compared["figures"].values()} == {0}
    assert compared["mcnemar"]["all"] == {"only_first": 0, "only_second": 0, "p": 1.0}
