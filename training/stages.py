"""What a run's settings come to: its stages, lists, input and network; and if they go together."""

import inspect
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path

import numpy as np

from imaging.preprocessing import Preprocessing
from training.config import (
    AttentionSettings,
    PretrainingSettings,
    SamplerSettings,
    StageSettings,
    TrainingRun,
)
from training.data.dataset import attended_labels
from training.data.samplers import SAMPLERS, Sampler
from training.data.samples import SampleList
from training.data.splits import load_or_make_split
from training.errors import ConfigError
from training.losses import LOSSES
from training.methods import METHODS, PRETRAINING, Method, Processes, check_method, setting
from training.network import Network, build_network, family_of, is_file

AMOUNTS = ("rotation", "shift", "brightness", "contrast", "gamma", "saturation", "hue", "blur")
"""Settings of an augmentation that say how far it may go."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: Its checkpoint's name.
        number: Sets its random draws apart from those of the others.
        settings: How long and how fast.
        care: The attention loss; None for none.
        sampler: Which pictures make up a batch.
        method: One of `METHODS` or `PRETRAINING`.
        classifier_only: Train a new last layer on frozen features (cRT).
    """

    name: str
    number: int
    settings: StageSettings
    care: AttentionSettings | None
    sampler: SamplerSettings
    method: str = "care"
    classifier_only: bool = False

    @property
    def method_type(self) -> type[Method]:
        """The method by its name."""
        return (METHODS | PRETRAINING)[self.method]


def stages_of(run: TrainingRun) -> list[Stage]:
    """The stages that a run's settings ask for, in order."""
    care, before = run.attention if run.attention.attend else None, run.pretraining
    stages = []
    if before.name != "none":
        plain = SamplerSettings(batch=before.batch)
        stages.append(Stage("pretrain", 3, before, None, plain, before.name))
    stages.append(Stage("stage1", 0, run.stage1, None, run.sampler, run.method))
    if care or run.control.second_stage:
        stages.append(Stage("stage2", 1, run.stage2, care, run.sampler, run.method))
    if run.crt.epochs:
        uniform = replace(run.sampler, name="class_uniform")
        stages.append(Stage("crt", 2, run.crt, None, uniform, classifier_only=True))
    return stages


def sampler_of(
    run: TrainingRun, stage: Stage, train_list: SampleList, processes: Processes, seed: int
) -> Sampler:
    """The batches of a stage, this process's share of them."""
    return SAMPLERS[stage.sampler.name](
        np.array([item.label for item in train_list.samples]),
        stage.sampler,
        seed=seed,
        rank=processes.rank,
        world=processes.world,
        mixup=None if stage.classifier_only or not stage.method_type.validated else run.mixup,
        whole=stage.method_type.two_views,
    )


def preprocessing_of(run: TrainingRun, stage: Stage | None = None) -> Preprocessing:
    """How pictures become the input of a run's model, or of one of its stages."""
    size = stage.settings.size if stage else 0
    return Preprocessing(**asdict(run.input) | {"size": size or run.input.size})


def split_of(
    run: TrainingRun, samples: SampleList, *, complete: bool = True
) -> dict[str, SampleList]:
    """The run's train, validation and test lists; see `load_or_make_split`."""
    split = run.data.split.replace("{seed}", str(run.seed))
    return load_or_make_split(
        samples,
        Path(split) if split else None,
        validation=run.data.validation,
        test=run.data.test,
        seed=run.seed,
        keep=run.data.keep,
        complete=complete,
    )


def weights_path(run: TrainingRun) -> str:
    """What the network starts from: a torchvision name, or a file, found from the data's root."""
    weights = run.network.weights
    return str(Path(run.data.root) / weights) if is_file(weights) else weights


def network_of(run: TrainingRun, classes: int, *, weights: str = "none") -> Network:
    """The network that a run's settings ask for; see `build_network`."""
    return build_network(
        run.network.backbone,
        classes,
        weights=weights,
        map_layer=run.network.map_layer,
        cosine=LOSSES[run.loss.name].cosine,
        gate=run.method == "deep_pneumonia",
    )


def check_lists(run: TrainingRun, stages: Sequence[Stage], train_list: SampleList) -> None:
    """See that a run's stages go together with its training list.

    Raises:
        ConfigError: They do not.
    """
    if len(train_list.labels) < 2:
        raise ConfigError(f"the only label is {train_list.labels[0]!r}; expected two or more")
    for stage in stages:
        batches = sampler_of(run, stage, train_list, Processes(), 0)
        if next(iter(batches), None) is None:
            raise ConfigError(
                f"{stage.name}: an epoch of {len(train_list.samples)} training pictures has no "
                f"full batch of {batches.batch}, and two views are compared in full batches only"
            )
        stage.method_type.check_data(run, train_list, batches.batch)


def check_attention(stages: Sequence[Stage], train_list: SampleList) -> None:
    """See that the attention loss of a run's stages has boxes to learn from.

    Apart from `check_lists`, for a grid is checked before it makes its boxes.

    Raises:
        ConfigError: No picture of the attended classes has one.
    """
    boxed = {item.label for item in train_list.samples if len(item.boxes)}
    for stage in stages:
        attended = attended_labels(stage.care, train_list)
        if attended and not attended & boxed:
            names = ", ".join(train_list.labels[label] for label in sorted(attended))
            raise ConfigError(
                f"attend: no training picture of {names} has a lesion box, so attention would have "
                "no effect; name the boxes in data.boxes or --boxes, or set attention.attend = []"
            )


def check(run: TrainingRun) -> None:
    """See that a run's settings go together, before anything is read.

    Raises:
        ConfigError: They do not; with what was found and what was expected.
    """
    choices = {
        "precision": (run.precision, ("bf16-mixed", "16-mixed", "32-true")),
        "loss.name": (run.loss.name, tuple(LOSSES)),
        "sampler.name": (run.sampler.name, tuple(SAMPLERS)),
        "input.fit": (run.input.fit, ("squash", "pad")),
        "input.color": (run.input.color, ("rgb", "gray")),
        "network.batch_norm": (run.network.batch_norm, ("frozen", "train")),
        "network.map_layer": (run.network.map_layer, ("last", "previous")),
        "augmentation.border": (run.augmentation.border, ("reflect", "black", "either")),
        "views.border": (run.views.border, ("reflect", "black", "either")),
        "stage1.schedule": (run.stage1.schedule, ("constant", "cosine")),
        "stage2.schedule": (run.stage2.schedule, ("constant", "cosine")),
        "crt.schedule": (run.crt.schedule, ("constant", "cosine")),
        "pretraining.schedule": (run.pretraining.schedule, ("constant", "cosine")),
        "stage1.optimizer": (run.stage1.optimizer, ("adamw", "sgd")),
        "stage2.optimizer": (run.stage2.optimizer, ("adamw", "sgd")),
        "crt.optimizer": (run.crt.optimizer, ("adamw", "sgd")),
        "pretraining.optimizer": (run.pretraining.optimizer, ("adamw", "sgd")),
    }
    for name, (found, expected) in choices.items():
        if found not in expected:
            raise ConfigError(f"{name} = {found!r}: expected {', '.join(expected)}")
    for name, fine, wanted in ranges(run):
        if not fine:
            raise ConfigError(f"{name} = {setting(run, name)}: expected {wanted}")
    taken = inspect.signature(LOSSES[run.loss.name]).parameters
    for name, value in asdict(run.loss).items():
        if name != "name" and value is not None and name not in taken:
            raise ConfigError(
                f"loss.{name} is set, but loss.name = {run.loss.name!r}: it would have no effect"
            )
    if not run.crt.epochs and run.crt != StageSettings(epochs=0):
        raise ConfigError("[crt] is set, but crt.epochs = 0: it would have no effect")
    if run.pretraining.patience != PretrainingSettings().patience:
        raise ConfigError(
            "pretraining.patience is set, but without labels no epoch is better than another: it "
            "would have no effect"
        )
    fixed = family_of(run.network.backbone).input_size
    sizes = {"input.size": run.input.size}
    sizes |= {f"{stage.name}.size": preprocessing_of(run, stage).size for stage in stages_of(run)}
    for name, size in sizes.items():
        if fixed and size != fixed:
            raise ConfigError(f"{run.network.backbone} takes {fixed} pixels, {name} is {size}")
    check_method(run)


def ranges(run: TrainingRun) -> list[tuple[str, bool, str]]:
    """Settings that are numbers or names: which, whether it is fine, what is expected."""
    loss, attention = run.loss, run.attention
    at_least_0, positive, some = "at least 0", "above 0", "1 or more"
    checked = [
        ("name", re.fullmatch(r"[^./\\][^/\\]*", run.name) is not None, "a folder's name"),
        ("seed", 0 <= run.seed < 2**32, "0 to 4294967295"),
        ("workers", run.workers >= 0, at_least_0),
        ("devices", run.devices >= 1, some),
        ("sheet_every", run.sheet_every >= 0, at_least_0),
        ("data.labels", len(set(run.data.labels)) == len(run.data.labels), "each label once"),
        ("input.size", run.input.size >= 64, "64 or more"),  # below, the map is a single number
        ("attention.alpha", 0 <= attention.alpha < 1, "0 to below 1"),
        ("attention.tau", 0 < attention.tau <= 1, "above 0 to 1"),
        ("attention.lam", 0 <= attention.lam < inf, at_least_0),
        ("attention.outside_slope", 0 <= attention.outside_slope < inf, at_least_0),
        ("attention.box_scale", 0 < attention.box_scale < inf, positive),
        ("mixup.alpha", 0 <= run.mixup.alpha < inf, at_least_0),
        ("sampler.batch", run.sampler.batch >= 1, some),
        ("sampler.k", run.sampler.k >= 1, some),
        ("sampler.p", run.sampler.p >= 0, at_least_0),
        ("sampler.epoch_pictures", run.sampler.epoch_pictures >= 0, at_least_0),
        ("loss.gamma", loss.gamma is None or 0 <= loss.gamma < inf, at_least_0),
        ("loss.beta", loss.beta is None or 0 <= loss.beta < 1, "0 to below 1"),
        ("loss.margin", loss.margin is None or 0 < loss.margin < inf, positive),
        ("loss.deferred", loss.deferred is None or 0 <= loss.deferred <= 1, "0 to 1"),
        ("loss.tau", loss.tau is None or 0 <= loss.tau < inf, at_least_0),
        ("crt.epochs", run.crt.epochs >= 0, at_least_0),
    ]
    for section, augmentation in (("augmentation", run.augmentation), ("views", run.views)):
        low, high = augmentation.zoom
        checked += [
            (f"{section}.zoom", 0 < low <= high < inf, "above 0, smallest first"),
            (f"{section}.aspect", 1 <= augmentation.aspect < inf, some),
        ]
        for name in AMOUNTS:
            amount = getattr(augmentation, name)
            checked.append((f"{section}.{name}", 0 <= amount < inf, at_least_0))
    for section in ("stage1", "stage2", "crt", "pretraining"):
        stage: StageSettings = getattr(run, section)
        checked += [
            (f"{section}.epochs", stage.epochs >= 1 or section == "crt", some),
            (f"{section}.patience", stage.patience >= 1, some),
            (f"{section}.average", 0 <= stage.average < 1, "0 to below 1"),
            (f"{section}.learning_rate", 0 < stage.learning_rate < inf, positive),
            (f"{section}.weight_decay", 0 <= stage.weight_decay < inf, at_least_0),
            (f"{section}.size", stage.size == 0 or stage.size >= 64, "64 or more, or 0"),
        ]
    return checked
