"""Settings of a run: read strictly, written down whole."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.training.tiny import sample, sample_list
from training.config import TrainingRun
from training.errors import ConfigError
from training.run_folder import check_trained, write_down
from training.stages import check, stages_of

FULL = """
name = "skin"
seed = 3
[data]
labels = ["mel", "nv"]
split = "splits/skin.csv"
keep = {mel = 60}
[loss]
name = "focal"
gamma = 1
[attention]
attend = "minority"
alpha = 0.7
[augmentation]
zoom = [0.9, 1.2]
[crt]
epochs = 4
[model]
license_file = "LICENSE"
"""


def load(folder, text: str, *settings: str) -> TrainingRun:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return TrainingRun.load(path, settings=settings)


def test_what_the_file_leaves_out_has_its_default(tmp_path):
    run = load(tmp_path, FULL)

    assert (run.name, run.seed, run.data.labels) == ("skin", 3, ("mel", "nv"))
    assert run.data.keep == {"mel": 60}
    assert (run.loss.gamma, run.loss.beta) == (1.0, None)
    assert type(run.loss.gamma) is float
    assert run.attention.attend == ("minority",)
    assert run.augmentation.zoom == (0.9, 1.2)
    assert (run.attention.tau, run.attention.lam, run.stage1.learning_rate) == (0.5, 0.5, 1e-4)
    assert run.crt.epochs == 4
    assert load(tmp_path, "").name == "run"  # that of the file


def test_one_entry_of_a_section_leaves_the_others_at_that_sections_defaults(tmp_path):
    usual = load(tmp_path, "")
    turned = load(tmp_path, "", "views.rotation=180", "crt.learning_rate=0.01")

    assert turned.views == replace(usual.views, rotation=180.0)
    assert turned.views.flip_horizontal
    assert turned.crt == replace(usual.crt, learning_rate=0.01)
    assert [stage.name for stage in stages_of(turned)] == ["stage1"]


def test_files_of_a_run_lie_beside_it(tmp_path):
    run = load(tmp_path, FULL)

    assert run.data.split == str(tmp_path.resolve() / "splits/skin.csv")
    assert run.model.license_file == str(tmp_path.resolve() / "LICENSE")
    assert load(tmp_path, "").data.split == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[attention]\nalhpa = 0.5", r"run\.toml \[attention\]: no setting 'alhpa'.* 'alpha'"),
        ("[atention]\nalpha = 0.5", "no setting 'atention'; did you mean 'attention'"),
        ("sead = 1", "no setting 'sead'; did you mean 'seed'"),
        ("[stage2]\nlearningrate = 1", "did you mean 'learning_rate'"),
        ("[augmentation]\nrotate = 5", "did you mean 'rotation'"),
        ("[data]\nzzz = 5", "no setting 'zzz'; did you mean '"),
        ('[attention]\nalpha = "0.5"', "alpha: expected float, found '0.5'"),
        ("[stage1]\nepochs = 2.5", "epochs: expected int, found 2.5"),
        ("[stage1]\nepochs = true", "epochs: expected int, found True"),
        ("[control]\nsecond_stage = 1", "second_stage: expected bool, found 1"),
        ("[augmentation]\nzoom = [0.5, 1.0, 2.0]", "zoom: expected 2 values, found"),
        ("[data]\nlabels = [1, 2]", "labels: expected str, found 1"),
        ("[data]\nkeep = 5", "keep: expected a table, found 5"),
        ('[data]\nkeep = {mel = "many"}', "keep: expected int, found 'many'"),
        ("data = 5", "data is a section, found 5"),
        ("seed = ", r"run\.toml: Invalid value"),
    ],
)
def test_a_mistake_names_the_entry_and_what_was_expected(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        TrainingRun.load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes('name = "Bläschen"'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.toml"):
        TrainingRun.load(tmp_path / "latin.toml")


def test_the_command_line_overrides_the_file(tmp_path):
    run = load(
        tmp_path,
        FULL,
        "seed=7",
        "attention.alpha=0.25",
        "attention.attend=all",
        "stage2.epochs = 3",
        "data.keep.nv=80",
        'data.labels=["nv", "mel"]',
        "control.second_stage=true",
        "network.weights=../x/mobilenet.pth",
        "augmentation.zoom=[1, 2]",
    )

    assert run.seed == 7
    assert run.attention.alpha == 0.25
    assert run.attention.attend == ("all",)
    assert run.stage2.epochs == 3
    assert run.data.keep == {"mel": 60, "nv": 80}
    assert run.data.labels == ("nv", "mel")
    assert run.control.second_stage is True
    assert run.network.weights == "../x/mobilenet.pth"
    assert run.augmentation.zoom == (1.0, 2.0)
    assert run.loss.name == "focal"  # the rest is the file's


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("attention.alpha", r"--set attention\.alpha: expected section\.key=value"),
        ("attention.alfa=0.5", "did you mean 'alpha'"),
        ("attention.alpha=much", "alpha: expected float, found 'much'"),
        ("seed.x=1", "--set seed.x=1: seed is no section"),
        ("data=1", "data is a section"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(tmp_path, setting, words):
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, "seed = 1", setting)


PARTS = {
    "train": sample_list(sample("b.png", 1), sample("a.png", 0)),
    "validation": sample_list(sample("c.png", 0), labels=("a", "b")),
    "test": sample_list(sample("d.png", 0), labels=("a", "b")),
}
SHARED_OUT_ANEW = PARTS | {"train": PARTS["test"], "test": PARTS["train"]}
ALL = sample_list(*(sample(f"{letter}.png", letter in "be") for letter in "abcde"))


def test_a_run_is_written_down_whole_and_reads_back_the_same(tmp_path):
    run = load(tmp_path, FULL)

    write_down(run, ALL, PARTS, tmp_path / "runs" / "skin")

    assert TrainingRun.load(tmp_path / "runs" / "skin" / "run.toml") == run
    text = (tmp_path / "runs" / "skin" / "run.toml").read_text()
    assert "learning_rate = 0.0001" in text  # defaults, too
    lists = (tmp_path / "runs" / "skin" / "split.csv").read_text()
    assert (
        lists
        == "image,split\na.png,train\nb.png,train\nc.png,validation\nd.png,test\ne.png,unused\n"
    )
    facts = json.loads((tmp_path / "runs" / "skin" / "environment.json").read_text())
    assert facts["seed"] == 3
    assert facts["packages"]["torch"] != "not installed"
    assert set(facts) >= {"python", "packages", "commit", "seed"}


@pytest.mark.parametrize("begun", ["stage1.last.ckpt", "stage1.safetensors"])
def test_a_folder_of_a_run_with_other_settings_or_lists_is_refused_and_left_alone(tmp_path, begun):
    folder = tmp_path / "here"
    write_down(load(tmp_path, FULL), ALL, PARTS, folder)
    (folder / begun).touch()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_down(load(tmp_path, FULL), ALL, PARTS, folder)  # the same again is a resumed run

    told = (
        r"here holds a run with other settings: seed = 3, not 4, attention\.tau = 0\.5, not 0\.6;"
    )
    with pytest.raises(ConfigError, match=told):
        write_down(load(tmp_path, FULL, "attention.tau=0.6", "seed=4"), ALL, PARTS, folder)
    with pytest.raises(ConfigError, match="here holds a run with other lists"):
        write_down(load(tmp_path, FULL), ALL, SHARED_OUT_ANEW, folder)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "circumstance",
    [
        "workers=0",
        "accelerator=cpu",
        "sheet_every=0",
        "data.root=/another/disk",
        "model.about=better",
        "network.weights=/elsewhere/b.pth",
    ],
)
def test_a_run_goes_on_under_other_circumstances_which_are_then_written_down(
    tmp_path, circumstance
):
    folder = tmp_path / "here"
    write_down(load(tmp_path, FULL, "network.weights=b.pth"), ALL, PARTS, folder)
    (folder / "stage1.last.ckpt").touch()

    moved = load(tmp_path, FULL, "network.weights=b.pth", circumstance)
    write_down(moved, ALL, PARTS, folder)

    assert TrainingRun.load(folder / "run.toml") == moved


def test_a_run_goes_on_after_an_upgrade_that_brings_an_option(tmp_path):
    folder, run = tmp_path / "here", load(tmp_path, FULL)
    write_down(run, ALL, PARTS, folder)
    (folder / "stage1.last.ckpt").touch()
    written = (folder / "run.toml").read_text()
    older = written.replace("outside_slope = 0.0\n", "")
    (folder / "run.toml").write_text(older)

    write_down(run, ALL, PARTS, folder)

    assert older != written
    assert (folder / "run.toml").read_text() == written


@pytest.mark.parametrize("begun_with_boxes", [True, False])
def test_a_run_does_not_go_on_where_boxes_came_or_went(tmp_path, begun_with_boxes):
    folder, run = tmp_path / "here", load(tmp_path, FULL)
    boxed = sample_list(*(replace(item, boxes=np.ones((1, 4))) for item in ALL.samples))
    before, now = (boxed, ALL) if begun_with_boxes else (ALL, boxed)
    write_down(run, before, PARTS, folder)
    (folder / "stage1.last.ckpt").touch()

    with pytest.raises(ConfigError, match="holds a run with other boxes of the same"):
        write_down(run, now, PARTS, folder)


CORRECTIONS = {
    "labels": lambda item: replace(item, label=1 - item.label),
    "groups": lambda item: replace(item, group="another"),
    "boxes": lambda item: replace(item, boxes=item.boxes + 1),
}


@pytest.mark.parametrize("corrected", CORRECTIONS)
def test_what_was_learned_from_labels_or_boxes_before_they_were_corrected_is_not_used(
    tmp_path, corrected
):
    folder, run = tmp_path / "here", load(tmp_path, FULL)
    boxed = sample_list(*(replace(item, boxes=np.ones((1, 4))) for item in ALL.samples))
    new = sample_list(CORRECTIONS[corrected](boxed.samples[0]), *boxed.samples[1:])
    write_down(run, boxed, PARTS, folder)
    (folder / "stage1.safetensors").touch()

    with pytest.raises(ConfigError, match=f"holds a run with other {corrected} of the same"):
        write_down(run, new, PARTS, folder)
    with pytest.raises(ConfigError, match=f"was trained with other {corrected} of the same"):
        check_trained(run, new, PARTS, folder)
    check_trained(run, boxed, PARTS, folder)


def test_a_run_without_boxes_can_be_measured_with_some(tmp_path):
    run = load(tmp_path, FULL)
    write_down(run, ALL, PARTS, tmp_path / "here")

    boxed = sample_list(*(replace(item, boxes=np.ones((1, 4))) for item in ALL.samples))
    check_trained(run, boxed, PARTS, tmp_path / "here")


def test_a_folder_where_no_epoch_was_done_takes_other_settings(tmp_path):
    write_down(load(tmp_path, FULL), ALL, PARTS, tmp_path / "here")
    write_down(load(tmp_path, FULL, "attention.tau=0.6"), ALL, SHARED_OUT_ANEW, tmp_path / "here")

    assert "tau = 0.6" in (tmp_path / "here" / "run.toml").read_text()
    assert "d.png,train" in (tmp_path / "here" / "split.csv").read_text()


def test_what_a_card_would_say_is_what_was_trained(tmp_path):
    folder, run = tmp_path / "here", load(tmp_path, FULL, "network.weights=/a/b.pth")
    with pytest.raises(ConfigError, match="here: no run was trained here"):
        check_trained(run, ALL, PARTS, folder)
    write_down(run, ALL, PARTS, folder)

    moved = ("network.weights=/c/b.pth", "data.root=/elsewhere", "data.boxes=x.csv", "workers=7")
    check_trained(load(tmp_path, FULL, *moved, "model.version='2'"), ALL, PARTS, folder)
    for setting, words in (
        ("input.size=64", "here was trained with input.size = 224, not 64: name the settings"),
        ("seed=4", "seed = 3, not 4"),
        ("network.weights=c.pth", "network.weights = 'b.pth', not 'c.pth'"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_trained(
                load(tmp_path, FULL, "network.weights=b.pth", setting), ALL, PARTS, folder
            )
    with pytest.raises(ConfigError, match=r"other lists than these: its split\.csv has them"):
        check_trained(run, ALL, SHARED_OUT_ANEW, folder)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("loss.name=focall", "loss.name = 'focall': expected cross_entropy, "),
        ("sampler.name=random", "sampler.name = 'random': expected plain, class_uniform, pk"),
        ("input.fit=crop", "input.fit = 'crop': expected squash, pad"),
        ("network.map_layer=first", "expected last, previous"),
        ("stage2.schedule=step", "stage2.schedule = 'step': expected constant, cosine"),
        ("attention.alpha=1.0", "attention.alpha = 1.0: expected 0 to below 1"),
        ("attention.tau=0", "attention.tau = 0.0: expected above 0 to 1"),
        ("attention.tau=nan", "attention.tau = nan"),
        ("attention.lam=-1", "attention.lam = -1.0: expected at least 0"),
        ("augmentation.aspect=0.5", "augmentation.aspect = 0.5: expected 1 or more"),
        ("devices=0", "devices = 0: expected 1 or more"),
        ("workers=-1", "workers = -1: expected at least 0"),
        ("seed=-1", "seed = -1: expected 0 to 4294967295"),
        ("name=''", "name = : expected a folder's name"),
        ("name=a/b", "name = a/b: expected a folder's name"),
        ("input.size=0", "input.size = 0: expected 64 or more"),
        ("stage1.size=32", "stage1.size = 32: expected 64 or more, or 0"),
        ('data.labels=["a", "b", "a"]', "data.labels = ('a', 'b', 'a'): expected each label once"),
        ("stage2.learning_rate=-1", "stage2.learning_rate = -1.0: expected above 0"),
        ("stage1.learning_rate=nan", "stage1.learning_rate = nan: expected above 0"),
        ("crt.weight_decay=-1", "crt.weight_decay = -1.0: expected at least 0"),
        ("crt.epochs=-1", "crt.epochs = -1: expected at least 0"),
        ("pretraining.epochs=0", "pretraining.epochs = 0: expected 1 or more"),
        ("pretraining.patience=0", "pretraining.patience = 0: expected 1 or more"),
        ("pretraining.patience=5", "pretraining.patience is set, but without labels no epoch is"),
        ("sampler.p=-1", "sampler.p = -1: expected at least 0"),
        ("sampler.epoch_pictures=-4", "sampler.epoch_pictures = -4: expected at least 0"),
        ("augmentation.rotation=-20", "augmentation.rotation = -20.0: expected at least 0"),
        ("views.border=mirror", "views.border = 'mirror': expected reflect, black, either"),
        ("views.zoom=[0.0, 1.0]", "views.zoom = (0.0, 1.0): expected above 0, smallest first"),
        ("views.zoom=[2.0, 1.0]", "views.zoom = (2.0, 1.0): expected above 0, smallest first"),
        ("views.aspect=0.5", "views.aspect = 0.5: expected 1 or more"),
        ("views.hue=inf", "views.hue = inf: expected at least 0"),
        ("attention.box_scale=0", "attention.box_scale = 0.0: expected above 0"),
        ("loss.gamma=2", "loss.gamma is set, but loss.name = 'cross_entropy': it would have no"),
        ("loss.name=class_balanced \nloss.beta=1", "loss.beta = 1.0: expected 0 to below 1"),
        ("crt.learning_rate=0.01", "[crt] is set, but crt.epochs = 0: it would have no effect"),
        ("crt.schedule=step", "crt.schedule = 'step': expected constant, cosine"),
        ("stage2.epochs=0", "stage2.epochs = 0: expected 1 or more"),
        ("stage1.patience=0", "stage1.patience = 0: expected 1 or more"),
        ("sampler.batch=0", "sampler.batch = 0: expected 1 or more"),
        ("sampler.k=0", "sampler.k = 0: expected 1 or more"),
        ("mixup.alpha=-0.1", "mixup.alpha = -0.1: expected at least 0"),
        ("augmentation.zoom=[0, 1]", "augmentation.zoom = (0.0, 1.0): expected above 0, smallest"),
        ("network.backbone=vgg11 \ninput.size=256", "vgg11 takes 224 pixels, input.size is 256"),
        ("network.backbone=vgg11 \nstage1.size=160", "vgg11 takes 224 pixels, stage1.size is 160"),
        ("network.backbone=vit_b_16", "backbone 'vit_b_16' is not supported"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_read(tmp_path, setting, words):
    run = load(tmp_path, "", *(part.strip() for part in setting.split("\n")))

    with pytest.raises(ConfigError) as caught:
        check(run)

    assert words in str(caught.value)


def test_the_default_settings_go_together(tmp_path):
    check(load(tmp_path, FULL))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["stage1"]),
        ("[attention]\nattend = 'all'", ["stage1", "stage2"]),
        ("[control]\nsecond_stage = true", ["stage1", "stage2"]),
        (FULL, ["stage1", "stage2", "crt"]),
    ],
)
def test_a_run_has_the_stages_its_settings_ask_for(tmp_path, text, names):
    stages = stages_of(load(tmp_path, text))

    assert [stage.name for stage in stages] == names
    assert len({stage.number for stage in stages}) == len(stages)
    assert stages[0].care is None
    if "stage2" in names:
        assert (stages[1].care is not None) == ("attend" in text)
    if "crt" in names:
        assert stages[2].classifier_only
        assert stages[2].care is None
        assert stages[2].sampler.name == "class_uniform"


def test_labels_with_any_letters_read_back_the_same(tmp_path):
    text = (
        '[data]\nkeep = {"bösartig, \\"selten\\"" = 3}\nlabels = ["bösartig, \\"selten\\"", "x"]\n'
    )
    run = load(tmp_path, text)
    write_down(run, ALL, PARTS, tmp_path / "here")
    assert TrainingRun.load(tmp_path / "here" / "run.toml", settings=('name="run"',)) == run
