"""What a run's settings come to: its stages, lists, input and network; and if they go together."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from imaging.preprocessing import Preprocessing
from training.config import AttentionSettings, SamplerSettings, StageSettings, TrainingRun
from training.data.samplers import SAMPLERS, Sampler
from training.data.samples import SampleList
from training.data.splits import load_or_make_split
from training.errors import ConfigError
from training.losses import LOSSES
from training.methods import METHODS, PRETRAINING, Method, Processes, check_method
from training.network import Network, build_network, family_of, is_file


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
    def teacher(self) -> type[Method]:
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
        mixup=None if stage.classifier_only or not stage.teacher.judged else run.mixup,
        whole=stage.teacher.two_views,
    )


def preprocessing_of(run: TrainingRun) -> Preprocessing:
    """How pictures become this run's input."""
    return Preprocessing(**asdict(run.input))


def split_of(run: TrainingRun, samples: SampleList) -> dict[str, SampleList]:
    """The run's train, validation and test lists."""
    split = run.data.split.replace("{seed}", str(run.seed))
    return load_or_make_split(
        samples,
        Path(split) if split else None,
        validation=run.data.validation,
        test=run.data.test,
        seed=run.seed,
        keep=run.data.keep,
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
    for stage in stages:
        batches = sampler_of(run, stage, train_list, Processes(), 0)
        if next(iter(batches), None) is None:
            raise ConfigError(
                f"{stage.name}: an epoch of {len(train_list.samples)} training pictures has no "
                f"full batch of {batches.batch}, and two views are compared in full batches only"
            )
        stage.teacher.check_data(run, train_list, batches.batch)


def check(run: TrainingRun) -> None:
    """See that a run's settings go together, before anything is read.

    Raises:
        ConfigError: They do not; with what was found and what was expected.
    """
    choices = {
        "loss.name": (run.loss.name, tuple(LOSSES)),
        "sampler.name": (run.sampler.name, tuple(SAMPLERS)),
        "input.fit": (run.input.fit, ("squash", "pad")),
        "input.color": (run.input.color, ("rgb", "gray")),
        "network.batch_norm": (run.network.batch_norm, ("frozen", "train")),
        "network.map_layer": (run.network.map_layer, ("last", "previous")),
        "augmentation.border": (run.augmentation.border, ("reflect", "black")),
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
    ranges = {
        "attention.alpha": (run.attention.alpha, 0 <= run.attention.alpha < 1, "0 to below 1"),
        "attention.tau": (run.attention.tau, 0 < run.attention.tau <= 1, "above 0 to 1"),
        "attention.lam": (run.attention.lam, run.attention.lam >= 0, "at least 0"),
        "augmentation.aspect": (run.augmentation.aspect, run.augmentation.aspect >= 1, "1 or more"),
        "augmentation.zoom": (
            run.augmentation.zoom,
            0 < run.augmentation.zoom[0] <= run.augmentation.zoom[1],
            "above 0, smallest first",
        ),
        "mixup.alpha": (run.mixup.alpha, run.mixup.alpha >= 0, "at least 0"),
        "sampler.batch": (run.sampler.batch, run.sampler.batch >= 1, "1 or more"),
        "sampler.k": (run.sampler.k, run.sampler.k >= 1, "1 or more"),
        "stage1.epochs": (run.stage1.epochs, run.stage1.epochs >= 1, "1 or more"),
        "stage2.epochs": (run.stage2.epochs, run.stage2.epochs >= 1, "1 or more"),
        "stage1.patience": (run.stage1.patience, run.stage1.patience >= 1, "1 or more"),
        "stage2.patience": (run.stage2.patience, run.stage2.patience >= 1, "1 or more"),
        "stage1.average": (run.stage1.average, 0 <= run.stage1.average < 1, "0 to below 1"),
        "stage2.average": (run.stage2.average, 0 <= run.stage2.average < 1, "0 to below 1"),
        "crt.average": (run.crt.average, 0 <= run.crt.average < 1, "0 to below 1"),
        "crt.patience": (run.crt.patience, run.crt.patience >= 1, "1 or more"),
        "devices": (run.devices, run.devices >= 1, "1 or more"),
    }
    for name, (value, fine, wanted) in ranges.items():
        if not fine:
            raise ConfigError(f"{name} = {value}: expected {wanted}")
    fixed = family_of(run.network.backbone).input_size
    if fixed and run.input.size != fixed:
        raise ConfigError(
            f"{run.network.backbone} takes {fixed} pixels, input.size is {run.input.size}"
        )
    check_method(run)
