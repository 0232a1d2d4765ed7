"""A model's folder as it is loaded, and what its maps mean."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from scipy.special import softmax

from imaging.image import Facts, MedicalImage
from models.card import ModelCard
from models.classifier import Classifier, Outputs, Prediction, session_for
from models.distribution import Distribution
from models.errors import BrokenModel, LabelNotFound, ModelNotFound
from models.store import load_one, model_names
from tests.factories import bright_square
from tests.models_factory import square_model


def picture(pixels: np.ndarray) -> MedicalImage:
    height, width = pixels.shape[:2]
    return MedicalImage(pixels, Facts(kind="png", width=width, height=height))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Classifier:
    return Classifier.load(square_model(tmp_path_factory.mktemp("models")))


def with_map(prediction: Prediction, cams: np.ndarray) -> Prediction:
    return Prediction(
        prediction.labels,
        prediction.probabilities,
        cams.astype(np.float32),
        prediction.placement,
        prediction.embedding,
    )


def test_the_answer_is_ranked_and_adds_up_to_one(classifier):
    [found] = classifier.classify([picture(bright_square(300, 200, top=20, left=100, side=60))])

    assert found.top == "square"
    assert [label for label, _ in found.ranked()] == ["square", "dark"]
    assert sum(probability for _, probability in found.ranked()) == pytest.approx(1)
    assert [(label, found.probability(label)) for label, _ in found.ranked()] == found.ranked()


def test_a_picture_gets_the_same_answer_alone_and_among_others(classifier):
    pictures = [
        picture(bright_square(90 + 40 * n, 300 - 30 * n, top=9 * n, left=20, side=30 + n))
        for n in range(5)
    ]

    together = classifier.classify(pictures)

    for one, alone in zip(together, map(classifier.classify, [[p] for p in pictures]), strict=True):
        np.testing.assert_allclose(one.probabilities, alone[0].probabilities, atol=1e-6)
        np.testing.assert_allclose(one.cams, alone[0].cams, atol=1e-6)
    assert classifier.classify([]) == []


def test_the_heatmap_has_its_peak_on_the_square_whatever_its_size(classifier):
    [found] = classifier.classify([picture(bright_square(400, 700, top=300, left=40, side=90))])

    peaks = set()
    for size in (None, (100, 175), (31, 57)):
        heatmap, peak = found.heatmap("square", size)
        height, width = heatmap.shape
        row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
        assert 300 / 400 <= (row + 0.5) / height <= 390 / 400
        assert 40 / 700 <= (column + 0.5) / width <= 130 / 700
        assert (heatmap.min(), heatmap.max()) == (0, 1)
        peaks.add(peak)
    assert len(peaks) == 1


@pytest.mark.parametrize("noise", [0, 1e-9, -1.0, np.nan])
def test_a_map_without_evidence_is_no_heat(classifier, noise):
    [found] = classifier.classify([picture(np.zeros((50, 70), np.uint8))])
    rng = np.random.default_rng(0)

    heatmap, peak = with_map(found, noise * rng.random(found.cams.shape)).heatmap("square")

    assert peak == 0
    assert heatmap.shape == (50, 70)
    assert not heatmap.any()


def test_evidence_in_the_padding_alone_is_no_heat(classifier):
    [found] = classifier.classify([picture(np.zeros((20, 200), np.uint8))])
    cams = np.zeros_like(found.cams)
    cams[:, 0] = 5  # far above the picture

    heatmap, peak = with_map(found, cams).heatmap("square")

    assert peak == 0
    assert not heatmap.any()


@pytest.mark.parametrize(("height", "width"), [(20, 200), (200, 20), (150, 200)])
def test_the_peak_is_that_of_the_cells_over_the_picture(classifier, height, width):
    [found] = classifier.classify([picture(np.zeros((height, width), np.uint8))])
    cams = np.zeros_like(found.cams)
    cams[:, 0, 0] = 5  # in the padding, but where there is little of it
    cams[:, 7, 7] = 1

    heatmap, peak = with_map(found, cams).heatmap("square")

    over = 14 * 0.75 * np.array([height, width]) / max(height, width)
    assert peak == (1 if over.min() < 9 else 5)
    assert heatmap.max() == 1


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.5])
def test_probabilities_are_the_softmax_of_logits_divided_by_the_temperature(
    classifier, temperature
):
    card = dataclasses.replace(classifier.card, temperature=temperature)
    logits = np.array([[1.5, -0.5], [0.0, 3.0], [80.0, -80.0]], np.float32)
    maps = np.zeros((3, 2, 14, 14), np.float32)
    placements = [card.preprocessing.place(10, 10)] * 3

    predictions = Classifier(card, classifier._session).predictions(
        Outputs(logits, maps, np.zeros((3, 2), np.float32)), placements
    )

    expected = softmax(logits.astype(np.float64) / temperature, axis=1)
    for found, row in zip(predictions, expected, strict=True):
        np.testing.assert_allclose(found.probabilities, row, rtol=1e-9)
        assert found.probabilities.dtype == np.float64


def test_a_picture_is_like_the_others_up_to_the_threshold_of_its_distance(classifier):
    flat = Distribution(
        center=np.zeros(2),
        basis=np.eye(2)[:, :1],
        variances=np.ones(1),
        rest=np.array(1.0),
        means=np.zeros((1, 2)),
        threshold=np.array(2.0),
    )
    embeddings = np.array([[0, 0], [1.9, 0], [2, 0], [0, -2.1], [3, 4]], np.float32)
    outputs = Outputs(np.zeros((5, 2)), np.zeros((5, 2, 14, 14)), embeddings)
    placements = [classifier.card.preprocessing.place(10, 10)] * 5

    found = Classifier(classifier.card, classifier._session, flat).predictions(outputs, placements)

    np.testing.assert_allclose([one.distance for one in found], [0, 1.9, 2, 2.1, 5], rtol=1e-6)
    assert [one.in_distribution for one in found] == [True, True, True, False, False]


def test_a_label_that_is_not_there_is_answered_with_those_that_are(classifier):
    [found] = classifier.classify([picture(np.zeros((9, 9), np.uint8))])

    with pytest.raises(LabelNotFound, match="dark, square"):
        found.heatmap("circle")
    with pytest.raises(LabelNotFound, match="dark, square"):
        found.probability("circle")


def test_weights_other_than_the_card_means_are_refused(tmp_path):
    folder = square_model(tmp_path)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")

    with pytest.raises(BrokenModel, match="has digest"):
        Classifier.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["square", "dark"]},
        {"temperature": 1.5},
        {"operating_points": {"dark": 0.5, "square": 0.4}},
        {"preprocessing": {"size": 224, "fit": "squash", "color": "rgb"}},
        {"preprocessing": {"size": 224, "fit": "pad", "color": "gray"}},
        {"accepts": {"modalities": ["CR"], "sop_classes": [], "body_parts": [], "views": []}},
    ],
    ids=str,
)
def test_a_card_that_the_graph_does_not_know_is_refused(tmp_path, change):
    folder = square_model(tmp_path)
    entries = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(entries | change))

    with pytest.raises(BrokenModel, match="disagree"):
        Classifier.load(folder)


@pytest.mark.parametrize("name", ["model.onnx", "card.json"])
def test_a_missing_file_is_a_broken_model(tmp_path, name):
    folder = square_model(tmp_path)
    (folder / name).unlink()

    with pytest.raises(BrokenModel, match=name):
        Classifier.load(folder)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda graph: graph.output.pop(), "outputs are"),
        (lambda graph: graph.input[0].type.tensor_type.shape.dim.pop(), "inputs are|cannot load"),
        (lambda graph: graph.input.append(onnx.ValueInfoProto(name="x")), "inputs are|cannot load"),
        (lambda graph: graph.node.pop(), "cannot load"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(tmp_path, harm, words):
    folder = square_model(tmp_path)
    model = onnx.load(folder / "model.onnx")
    harm(model.graph)
    card = Classifier.load(folder).card

    with pytest.raises(BrokenModel, match=words):
        session_for(model.SerializeToString(), card)


def test_models_are_found_by_their_folders(tmp_path):
    square_model(tmp_path, "first")
    square_model(tmp_path, "second")
    (tmp_path / "notes").mkdir()
    shutil.move(square_model(tmp_path, "third"), tmp_path / ".third.draft")

    assert model_names(tmp_path) == ["first", "second"]
    with pytest.raises(ModelNotFound, match="first, second"):
        load_one(tmp_path, "../first")


def test_the_card_is_read_once_and_cannot_change_between_check_and_use(tmp_path, monkeypatch):
    square_model(tmp_path, "square")
    read = ModelCard.load
    seen = []
    monkeypatch.setattr(ModelCard, "load", lambda path: seen.append(path) or read(path))

    assert load_one(tmp_path, "square").card == read(tmp_path / "square" / "card.json")
    assert seen == [tmp_path / "square" / "card.json"]


def test_a_folder_under_another_name_is_refused(tmp_path):
    shutil.move(square_model(tmp_path, "chest"), tmp_path / "knee")

    with pytest.raises(BrokenModel, match="card is that of 'chest'"):
        load_one(tmp_path, "knee")


def test_nobody_is_told_that_a_model_runs(tmp_path):
    square_model(tmp_path / "models", "square")
    home = tmp_path / "home"
    home.mkdir()
    # ONNX Runtime keeps quiet by itself where these say that nobody works with it.
    quiet = ("CI", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY")
    kept = {name: value for name, value in os.environ.items() if name not in quiet}
    load = "import sys; from models.store import *; load_one(Path(sys.argv[1]), 'square')"

    subprocess.run(
        [sys.executable, "-c", load, tmp_path / "models"],
        env=kept | {"HOME": str(home)},
        check=True,
    )

    assert list(home.rglob("*")) == []
