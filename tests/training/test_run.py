"""Whole runs on a small drawn data set: stages, resuming, two processes, the folder they leave."""

import csv
import errno
import json
import resource
import shutil
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from safetensors.numpy import load_file

import training.fit
from tests.lesion_factory import RUN, lesion_run, lesion_set
from tests.training.tiny import CLASSES, tiny_network, tiny_pictures
from training.config import TrainingRun
from training.data.dataset import Batch
from training.data.layouts import load_samples
from training.errors import ConfigError
from training.fit import predict, set_up, train
from training.losses import LOSSES, CrossEntropy
from training.methods import METHODS
from training.network import CosineLinear
from training.run_folder import (
    Progress,
    epochs_done,
    load_progress,
    save_progress,
    save_weights,
)
from training.stages import network_of, split_of, stages_of


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return lesion_set(tmp_path_factory.mktemp("lesions"))


@pytest.fixture
def load(data, tmp_path):
    def load_run(*settings: str, text: str = RUN) -> TrainingRun:
        return TrainingRun.load(
            lesion_run(data, text=text), settings=(f"data.root={data}", *settings)
        )

    return load_run


def steps(path) -> np.ndarray:
    with path.open(newline="") as file:
        return np.array([[float(value) for value in row] for row in list(csv.reader(file))[1:]])


def test_both_stages_run_and_leave_everything_that_shaped_them(load, tmp_path):
    checkpoint = train(load("sheet_every=1"), tmp_path / "run", cache=tmp_path / "cache")

    assert checkpoint == tmp_path / "run" / "stage2.safetensors"
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left >= {
        "run.toml",
        "split.csv",
        "environment.json",
        "stage1.safetensors",
        "stage1.png",
        "stage2.safetensors",
        "stage2.steps.csv",
        "stage2.attention-001.png",
        "tensorboard",
    }
    resolved = tomllib.loads((tmp_path / "run" / "run.toml").read_text())
    assert resolved["attention"]["alpha"] == 0.5  # a default, written out
    history = json.loads((tmp_path / "run" / "stage2.json").read_text())["history"]
    assert history[0]["l_in"] < 0 < history[0]["l_out"]
    for row in history:
        l_a = row["l_in"] + 0.5 * row["l_out"]
        assert row["loss"] == pytest.approx(0.5 * row["l_c"] + 0.5 * l_a, abs=1e-5)
    stage1 = json.loads((tmp_path / "run" / "stage1.json").read_text())["history"]
    assert {row["l_in"] for row in stage1} == {0}


def test_attention_moves_into_the_boxes(load, tmp_path):
    run = load("stage2.epochs=6", 'attention.attend="all"', "attention.head_learns=true")
    train(run, tmp_path / "run", cache=tmp_path / "cache")
    history = json.loads((tmp_path / "run" / "stage2.json").read_text())["history"]
    assert history[-1]["l_in"] + 0.5 * history[-1]["l_out"] < (
        history[0]["l_in"] + 0.5 * history[0]["l_out"] - 0.05
    )


def test_an_epoch_is_judged_in_the_precision_of_the_exported_file():
    images, network = tiny_pictures(8), tiny_network("linear")
    rest = [torch.empty(0)] * 5
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")

    labels, logits = predict(network, [Batch(images, torch.arange(8) % CLASSES, *rest)], fabric)

    assert labels.tolist() == [0, 1, 2, 3] * 2
    with torch.no_grad():
        np.testing.assert_array_equal(logits, network.eval()(images).logits.numpy())
        with fabric.autocast():
            assert (logits != network(images).logits.float().numpy()).any()


def test_a_running_mean_of_the_weights_is_kept_if_asked_for(load, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        METHODS["care"],
        "after_step",
        lambda method: seen.append(
            {name: value.double().clone() for name, value in method.network.state_dict().items()}
        ),
    )
    run = load("stage1.epochs=1", "stage1.average=0.7", "sampler.epoch_pictures=48")
    train(run, tmp_path, cache=tmp_path, until="stage1")

    weights = load_file(tmp_path / "stage1.safetensors")
    kept = {name: value for name, value in weights.items() if value.dtype.kind == "f"}
    assert len(seen) > 2
    for name, value in kept.items():
        mean = seen[0][name]
        for step in seen[1:]:
            mean = 0.7 * mean + 0.3 * step[name]
        np.testing.assert_allclose(value, mean, atol=1e-6, err_msg=name)
    assert any(np.abs(kept[name] - seen[-1][name].numpy()).max() > 1e-4 for name in kept)


@pytest.mark.parametrize(
    ("killed_after", "settings"),
    [(1, ()), (3, ()), (1, ("workers=1", "network.backbone='mobilenet_v2'"))],  # has dropout
)
def test_a_killed_run_resumes_to_the_weights_of_an_undisturbed_one(
    load, tmp_path, monkeypatch, killed_after, settings
):
    changes = "augmentation={rotation=20, flip_horizontal=true}"
    run = load(changes, "mixup.alpha=0.4", "stage1.average=0.9", *settings)
    train(run, tmp_path / "undisturbed", cache=tmp_path / "cache")

    saved = []
    save_progress = training.fit.save_progress

    def die_after_saving(*arguments) -> None:
        save_progress(*arguments)
        saved.append(arguments)
        if len(saved) == killed_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.fit, "save_progress", die_after_saving)
    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path / "killed", cache=tmp_path / "cache")
    monkeypatch.undo()
    train(run, tmp_path / "killed", cache=tmp_path / "cache")

    for stage in ("stage1", "stage2"):
        one = load_file(tmp_path / "undisturbed" / f"{stage}.safetensors")
        other = load_file(tmp_path / "killed" / f"{stage}.safetensors")
        for name, weights in one.items():
            np.testing.assert_array_equal(weights, other[name], err_msg=name)
        np.testing.assert_array_equal(
            steps(tmp_path / "undisturbed" / f"{stage}.steps.csv"),
            steps(tmp_path / "killed" / f"{stage}.steps.csv"),
        )


@pytest.mark.parametrize("left", ["older version", "other method", "cut short", "empty", "text"])
def test_what_a_stopped_stage_left_says_so_where_it_cannot_be_gone_on_from(tmp_path, left):
    last, module = tmp_path / "stage1.last.ckpt", torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    save_progress(last, [module], [optimizer], Progress(epoch=3))
    assert load_progress(last, [module], [optimizer]).epoch == epochs_done(tmp_path, "stage1") == 3
    whole = last.read_bytes()
    if left == "older version":  # had "method" where "learning" is now
        torch.save({"method": module.state_dict(), "progress": {"epoch": 3}}, last)
    elif left == "other method":
        save_progress(last, [torch.nn.Linear(5, 2)], [optimizer], Progress(epoch=3))
    else:
        last.write_bytes({"cut short": whole[:-30], "empty": b"", "text": b"hello"}[left])

    words = r"stage1\.last\.ckpt is damaged, or was left by another version .* Remove it"
    with pytest.raises(ConfigError, match=words):
        load_progress(last, [module], [optimizer])
    if left in ("cut short", "empty", "text"):
        with pytest.raises(ConfigError, match=words):
            epochs_done(tmp_path, "stage1")


def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path):
    weights, last = tmp_path / "stage1.safetensors", tmp_path / "stage1.last.ckpt"
    module = torch.nn.Linear(300, 300)  # 360 kB
    writes = {
        weights: lambda: save_weights(module.state_dict(), weights),
        last: lambda: save_progress(last, [module], [], Progress(epoch=1)),
    }
    for write in writes.values():
        write()
    before = {path: path.read_bytes() for path in writes}
    assert weights.stat().st_mode == last.stat().st_mode  # others may read both, or neither

    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, usual[1]))
    try:
        for path, write in writes.items():
            with pytest.raises(OSError, match=r"is the disk full|File too large") as caught:
                write()
            assert caught.value.filename == str(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)

    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.long
def test_a_run_killed_for_good_resumes_as_well(data, tmp_path):
    start = [sys.executable, "-c", "from cli.main import app; app()", "train"]
    start += [str(lesion_run(data)), "--data", str(data), "--folder"]
    # Both in processes of their own: the number of threads changes the last digits of a sum.
    subprocess.run([*start, str(tmp_path / "undisturbed")], check=True, cwd=tmp_path, timeout=240)
    command = [*start, str(tmp_path / "killed")]
    process = subprocess.Popen(command, cwd=tmp_path)
    deadline = time.monotonic() + 240
    while not (tmp_path / "killed" / "stage1.last.ckpt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    subprocess.run(command, check=True, cwd=tmp_path, timeout=240)
    one = load_file(tmp_path / "undisturbed" / "stage2.safetensors")
    other = load_file(tmp_path / "killed" / "stage2.safetensors")
    for name, weights in one.items():
        np.testing.assert_array_equal(weights, other[name], err_msg=name)


def test_two_processes_have_the_losses_of_one(load, data, tmp_path):
    # Batch statistics are those of a process's own pictures: they stay frozen here.
    settings = [
        f"data.root={data}",
        'network.batch_norm="frozen"',
        'loss.name="cost_sensitive"',
        "stage1.learning_rate=1e-4",
        "stage2.learning_rate=1e-4",
    ]
    run = lesion_run(data, "two")
    for devices in (1, 2):
        command = [sys.executable, "-c", "from cli.main import app; app()", "train", str(run)]
        command += ["--folder", str(tmp_path / str(devices)), "--data", str(data)]
        for setting in (*settings, 'accelerator="cpu"', f"devices={devices}"):
            command += ["--set", setting]
        subprocess.run(command, check=True, cwd=tmp_path, timeout=240)
    for stage in ("stage1", "stage2"):
        one = steps(tmp_path / "1" / f"{stage}.steps.csv")
        two = steps(tmp_path / "2" / f"{stage}.steps.csv")
        assert one.shape == two.shape
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_retraining_the_classifier_leaves_the_features_alone(load, tmp_path):
    train(load("crt.epochs=1"), tmp_path / "run", cache=tmp_path / "cache")
    before = load_file(tmp_path / "run" / "stage2.safetensors")
    after = load_file(tmp_path / "run" / "crt.safetensors")
    for name, weights in before.items():
        changed = not np.array_equal(weights, after[name])
        assert changed == name.startswith("head."), name


@pytest.mark.parametrize("loss", ["cost_sensitive", "focal", "ldam_drw", "logit_adjusted"])
def test_the_classifier_is_retrained_by_plain_cross_entropy_whatever_the_loss(load, loss):
    run = load(f'loss.name="{loss}"', "crt.epochs=1")
    samples = load_samples(run.data)
    train_list = split_of(run, samples)["train"]
    learned_by = {}
    for stage in stages_of(run):
        network, fabric = network_of(run, len(samples.labels)), Fabric(accelerator="cpu", devices=1)
        method, *_ = set_up(fabric, network, run, stage, train_list, 8)
        learned_by[stage.name] = type(method.classify)
        assert isinstance(network.head[-1], CosineLinear) == LOSSES[loss].cosine  # it stays

    assert learned_by == {"stage1": LOSSES[loss], "stage2": LOSSES[loss], "crt": CrossEntropy}


def test_a_stage_can_learn_from_smaller_pictures_than_the_model_is_for(load, tmp_path):
    short, cache = ("stage1.epochs=1", "stage2.epochs=1"), tmp_path / "cache"
    train(load(*short, "input.size=96", "stage1.size=64"), tmp_path / "run", cache=cache)
    train(load(*short, "input.size=64"), tmp_path / "small", cache=cache)

    run, other = (tmp_path / name for name in ("run", "small"))
    one, same = (load_file(folder / "stage1.safetensors") for folder in (run, other))
    for name in one:
        np.testing.assert_array_equal(one[name], same[name], err_msg=name)
    assert not np.array_equal(steps(run / "stage2.steps.csv"), steps(other / "stage2.steps.csv"))
    assert {np.load(path, mmap_mode="r").shape[1] for path in cache.glob("*.npy")} == {64, 96}


def test_the_arm_without_attention_can_have_the_same_second_stage(load, tmp_path):
    run = load("attention.attend=[]", "control.second_stage=true", "stage2.epochs=1")
    train(run, tmp_path / "run", cache=tmp_path / "cache")
    history = json.loads((tmp_path / "run" / "stage2.json").read_text())["history"]
    assert history[0]["l_in"] == 0
    assert history[0]["loss"] == history[0]["l_c"]


@pytest.mark.parametrize(
    "loss",
    ["cross_entropy", "cost_sensitive", "focal", "class_balanced", "ldam_drw", "logit_adjusted"],
)
def test_every_remedy_composes_with_attention(load, tmp_path, loss):
    run = load(f'loss.name="{loss}"', "stage1.epochs=1", "stage2.epochs=1")
    train(run, tmp_path / "run", cache=tmp_path / "cache")
    [row] = json.loads((tmp_path / "run" / "stage2.json").read_text())["history"]
    assert np.isfinite(list(row.values())).all()
    assert row["l_in"] < 0


def test_settings_that_do_not_go_together_stop_the_run_before_it_starts(load, tmp_path):
    for setting, words in (
        ('loss.name="focall"', "focall"),
        ("attention.alpha=1.0", "alpha"),
        ('attention.attend=["hexagon"]', "hexagon"),
        ('data.boxes=""', "no training picture of ring, cross has a lesion box"),
        ('accelerator="gpuu"', "gpuu"),
        ('precision="half"', "half"),
        ('precision="bf16-true"', "expected bf16-mixed, 16-mixed, 32-true"),
        ('network.backbone="vgg11"', "224 pixels"),
        ('network.backbone="vit_b_16"', "not supported"),
    ):
        with pytest.raises(ConfigError, match=words):
            train(load(setting), tmp_path / "run", cache=tmp_path / "cache")
        assert not list((tmp_path / "run").glob("stage*")), setting


def test_one_class_is_refused_before_anything_is_trained(tmp_path):
    data = lesion_set(tmp_path / "data", counts={"disc": 20})
    settings = (f"data.root={data}", 'data.labels=["disc"]', "attention.attend=[]")
    run = TrainingRun.load(lesion_run(data), settings=settings)
    with pytest.raises(ConfigError, match="the only label is 'disc'; expected two or more"):
        train(run, tmp_path / "run", cache=tmp_path / "cache")


def test_a_disk_that_is_full_amid_a_stage_is_told_with_the_runs_folder(load, tmp_path, monkeypatch):
    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training.fit, "run_stage", full)

    with pytest.raises(OSError, match="No space left on device") as caught:
        train(load("stage1.epochs=1"), tmp_path / "run", cache=tmp_path / "cache")
    assert caught.value.filename == str(tmp_path / "run")


def test_pictures_that_are_learnt_from_and_measured_on_are_told(tmp_path, caplog):
    data = lesion_set(tmp_path / "data")
    run = TrainingRun.load(lesion_run(data), settings=(f"data.root={data}",))
    lists = {name: part.samples for name, part in split_of(run, load_samples(run.data)).items()}
    learnt, measured = lists["train"][0], lists["test"][0]
    shutil.copyfile(learnt.path, measured.path)

    train(run, tmp_path / "run", cache=tmp_path / "cache", until="stage1")

    assert f"learnt or chosen by it: {learnt.name} = {measured.name};" in caplog.text


def test_a_loss_that_is_no_number_ends_the_stage_and_leaves_no_checkpoint(load, tmp_path):
    with pytest.raises(ConfigError, match=r"stage1, epoch 1: the loss is nan.*learning_rate"):
        train(load("stage1.learning_rate=1e30"), tmp_path / "run", cache=tmp_path / "cache")
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_a_folder_with_another_run_is_not_overwritten(load, tmp_path):
    run = load("stage1.epochs=1", "attention.attend=[]")
    train(run, tmp_path / "run", cache=tmp_path / "cache")
    with pytest.raises(ConfigError, match="other settings"):
        train(load("stage1.epochs=2"), tmp_path / "run", cache=tmp_path / "cache")
