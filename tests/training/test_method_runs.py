"""Whole runs of every method on the drawn lesion set: stages, resuming, what they leave, export."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import training.fit
from models.classifier import Classifier
from tests.lesion_factory import LEARNT, lesion_run, lesion_set
from training.config import TrainingRun
from training.data.cache import PictureCache
from training.data.layouts import load_samples
from training.errors import ConfigError
from training.fit import train
from training.metrics import recalls
from training.network import build_network
from training.release import load_checkpoint, release
from training.stages import preprocessing_of

QUICK = f"""
{LEARNT}
[sampler]
batch = 8
epoch_pictures = 16

[stage1]
epochs = 2

[stage2]
epochs = 2
"""
METHODS = {
    "deep_pneumonia": """
method = "deep_pneumonia"
[deep_pneumonia]
lesion_only = 0.5
[pretraining]
name = "moco"
batch = 8
queue = 16
rows = 8
epochs = 2
learning_rate = 0.001
""",
    "proco": """
method = "proco"
[proco]
queue = 16
rows = 8
online = true
""",
    "ecl": """
method = "ecl"
[ecl]
rows = 8
""",
}
STAGES = {
    "deep_pneumonia": ["pretrain", "stage1"],
    "proco": ["stage1", "stage2"],
    "ecl": ["stage1"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return lesion_set(tmp_path_factory.mktemp("lesions"))


def load(data, method: str, *settings: str) -> TrainingRun:
    changed = [f"data.root={data}", *settings]
    if "stage2" in STAGES[method]:
        changed.append('attention.attend="all"')
    path = lesion_run(data, method, METHODS[method] + QUICK)
    return TrainingRun.load(path, settings=tuple(changed))


@pytest.fixture(scope="module", params=METHODS)
def trained(request, data, tmp_path_factory):
    """A method's name, its run, the run's folder."""
    run = load(data, request.param)
    folder = tmp_path_factory.mktemp(request.param)
    train(run, folder / "run", cache=folder / "cache")
    return request.param, run, folder / "run"


def weights_of(folder) -> dict[str, np.ndarray]:
    return {
        f"{path.name}: {name}": value
        for path in sorted(folder.glob("*.safetensors"))
        for name, value in load_file(path).items()
    }


def test_a_method_leaves_the_network_what_it_brought_and_the_names_of_its_losses(trained):
    name, _, folder = trained
    beside = name in ("proco", "ecl")
    for stage in STAGES[name]:
        history = json.loads((folder / f"{stage}.json").read_text())["history"]
        assert np.isfinite([list(row.values()) for row in history]).all()
        assert ("validation_mca" in history[0]) == (stage != "pretrain")
        names = (folder / f"{stage}.steps.csv").read_text().splitlines()[0].split(",")
        assert names[2:] == [key for key in history[0] if key not in ("epoch", "validation_mca")]
        assert (folder / f"{stage}.png").exists()
        assert (folder / f"{stage}.safetensors").exists()
        assert not (folder / f"{stage}.last.ckpt").exists()
    assert (folder / "stage1.method.safetensors").exists() == beside
    gate = any(key.startswith("features.8.") for key in load_file(folder / "stage1.safetensors"))
    assert gate == (name == "deep_pneumonia")


KILLED_AFTER = {"deep_pneumonia": (1, 3), "proco": (1, 3), "ecl": (1,)}  # epochs, of all stages


def test_a_killed_run_resumes_to_the_weights_of_an_undisturbed_one(trained, tmp_path, monkeypatch):
    name, run, undisturbed = trained
    save_progress = training.fit.save_progress
    for killed_after in KILLED_AFTER[name]:
        folder, saved = tmp_path / str(killed_after), []

        def die_after_saving(*arguments, saved=saved, killed_after=killed_after) -> None:
            save_progress(*arguments)
            saved.append(arguments)
            if len(saved) == killed_after:
                raise KeyboardInterrupt

        monkeypatch.setattr(training.fit, "save_progress", die_after_saving)
        with pytest.raises(KeyboardInterrupt):
            train(run, folder, cache=tmp_path / "cache")
        monkeypatch.undo()
        train(run, folder, cache=tmp_path / "cache")

        one, other = weights_of(undisturbed), weights_of(folder)
        assert one.keys() == other.keys()
        for key, value in one.items():
            np.testing.assert_array_equal(value, other[key], err_msg=key)
        for path in undisturbed.glob("*.steps.csv"):
            assert path.read_text() == (folder / path.name).read_text()


def test_the_exported_model_is_the_network_alone_and_answers(trained, tmp_path):
    name, run, folder = trained

    card = release(run, folder, tmp_path)

    assert card.training["run"]["method"] == name
    classifier = Classifier.load(tmp_path / run.name)
    _, network = load_checkpoint(run, folder, None, classes=3)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    found = classifier.run(images)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).logits
    np.testing.assert_allclose(found.logits, expected, atol=1e-3)
    assert found.cams.shape == (3, 3, 2, 2)
    page = (tmp_path / run.name / "README.md").read_text()
    assert {"deep_pneumonia": "Deep Pneumonia", "proco": "ProCo", "ecl": "ECL"}[name] in page


def test_an_epoch_without_a_full_batch_is_refused_before_anything_is_written(data, tmp_path):
    run = load(data, "ecl", "sampler.batch=20")
    with pytest.raises(ConfigError, match=r"stage1: .* no full batch of 20"):
        train(run, tmp_path / "run", cache=tmp_path / "cache")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("trained", ["deep_pneumonia"], indirect=True)
def test_a_pretrained_network_is_no_model_but_any_other_run_can_start_from_it(trained, tmp_path):
    _, run, folder = trained
    with pytest.raises(ConfigError, match="no finished checkpoint of pretrain"):
        load_checkpoint(run, folder, "pretrain", classes=3)

    state = load_file(folder / "pretrain.safetensors")
    for gate in (True, False):
        network = build_network(
            "resnet18", 5, weights=str(folder / "pretrain.safetensors"), gate=gate
        )
        own = network.state_dict()
        assert ("features.8.conv.weight" in own) == gate
        for key in own:
            if not key.startswith("head."):
                np.testing.assert_array_equal(own[key].numpy(), state[key])


ARMS = {
    "cross_entropy": (),
    "deep_pneumonia": ("method=deep_pneumonia",),
    "proco": ("method=proco", "proco.queue=64", "proco.rows=32"),
    "ecl": ("method=ecl", "ecl.rows=32"),
}
LONGER = (
    "sampler.batch=16",
    "sampler.epoch_pictures=0",
    "stage1.epochs=12",
    "stage1.patience=12",
    "stage1.learning_rate=1e-3",
    "stage1.schedule=cosine",
    "augmentation={flip_horizontal=true, flip_vertical=true}",
)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_method_finds_the_rare_class_of_unseen_pictures_over_five_seeds(tmp_path, capsys):
    data = lesion_set(tmp_path / "data", counts={"disc": 120, "ring": 40, "cross": 16})
    unseen = lesion_set(tmp_path / "unseen", seed=99, counts={"disc": 40, "ring": 40, "cross": 40})
    other = TrainingRun.load(lesion_run(unseen, text=QUICK), settings=(f"data.root={unseen}",))
    samples = load_samples(other.data)
    pictures = PictureCache.open(samples, preprocessing_of(other), tmp_path / "cache")
    images = torch.from_numpy(
        np.stack([pictures.pictures[pictures.position(item.name)] for item in samples.samples])
    )
    truth = np.array([item.label for item in samples.samples])
    found = {}
    for arm, settings in ARMS.items():
        rows = []
        for seed in range(5):
            path = lesion_run(data, text=QUICK)
            here = (f"data.root={data}", f"seed={seed}", *LONGER, *settings)
            run = TrainingRun.load(path, settings=here)
            train(run, tmp_path / f"{arm}-{seed}", cache=tmp_path / "cache")
            _, network = load_checkpoint(run, tmp_path / f"{arm}-{seed}", None, classes=3)
            with torch.no_grad():
                predicted = network(images).logits.argmax(1).numpy()
            rows.append(recalls(truth, predicted, 3))
        found[arm] = np.array(rows)
    with capsys.disabled():
        print("\nrecall of the rare class over 5 seeds: mean, standard deviation; mean recall")
        for arm, rows in found.items():
            rare = rows[:, 2]
            print(f"{arm:16} {rare.mean():.3f} {rare.std(ddof=1):.3f} {rows.mean():.3f}")
    for arm, rows in found.items():
        assert rows[:, 2].mean() > 1 / 3, arm  # chance
        assert rows.mean() > 0.6, arm
