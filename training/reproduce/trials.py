"""A cell with a seed, ready to be trained; and digests that say what was trained on what."""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from training.boxes.generate import Generator, write_boxes
from training.config import (
    AttentionSettings,
    ControlSettings,
    LossSettings,
    ModelSettings,
    SamplerSettings,
    StageSettings,
    TrainingRun,
)
from training.data.layouts import load_samples
from training.data.samples import SampleList
from training.losses import LOSSES
from training.methods import METHODS, Processes
from training.network import is_file
from training.reproduce.rows import Cell, Grid, changed
from training.run_folder import CIRCUMSTANCES, shaping
from training.stages import Stage, preprocessing_of, sampler_of, stages_of, weights_path

Parts = dict[str, SampleList]
"""Train, validation and test list."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie.

    Attributes:
        results: JSON files and tables.
        work: Run folders, by digest, and boxes made by machine.
        cache: Decoded pictures.
    """

    results: Path
    work: Path
    cache: Path


class Portion(NamedTuple):
    """A stage of a trial, as trials share it.

    Attributes:
        stage: The stage.
        run: A run that ends with it.
        folder: Of that run; all trials that are alike up to here have the same.
    """

    stage: Stage
    run: TrainingRun
    folder: Path


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A cell with a seed.

    Attributes:
        grid: Its grid's name.
        cell: The cell.
        base: The run that the table was asked of.
        run: What is trained.
        samples: All pictures, with the boxes it is trained with.
        parts: Its train, validation and test lists.
        config: Digest of the settings, initial weights and boxes.
        split: Digest of the lists.
        part: Which of them its figures are told of.
    """

    grid: str
    cell: Cell
    base: TrainingRun
    run: TrainingRun
    samples: SampleList
    parts: Parts
    config: str
    split: str
    part: str

    def file(self, places: Places) -> Path:
        """Where its result goes."""
        return places.results / self.grid / f"{self.cell.name}-seed{self.run.seed}.json"

    def result(self, places: Places) -> dict[str, Any] | None:
        """Its result, if there is one of these very settings, lists and boxes."""
        if not self.file(places).exists():
            return None
        record = json.loads(self.file(places).read_text(encoding="utf-8"))
        current = (record["config"], record["split"]) == (self.config, self.split)
        return record if current and agree(record["run"], self.run) else None

    def folder(self, places: Places) -> Path:
        """Its run's folder: cells of several tables that ask for the same run share it."""
        return places.work / "runs" / digest([unusual(self.run), self.config, self.split])

    @property
    def last(self) -> str:
        """Name of its last stage, whose network is measured."""
        return stages_of(self.run)[-1].name

    def portions(self, places: Places) -> list[Portion]:
        """Its stages, in order; each goes on from the one before."""
        *before, last = stages_of(self.run)
        found = []
        for stage in before:
            run = beginning(self.run, stage.name)
            shaped = [unusual(run), config_digest(run, self.samples), self.split]
            found.append(Portion(stage, run, places.work / "runs" / digest(shaped)))
        return [*found, Portion(last, self.run, self.folder(places))]


def make_trial(
    grid: Grid,
    cell: Cell,
    base: TrainingRun,
    seed: int,
    places: Places,
    reference: SampleList,
    parts: Parts,
) -> Trial:
    """A cell with a seed; boxes that its generator has yet to make are left out.

    Args:
        grid: The cell's grid.
        cell: The cell.
        base: The run that the table was asked of.
        seed: Of everything random.
        places: Where things lie.
        reference: All pictures, with the boxes of the base run.
        parts: Their lists for this seed.
    """
    run, samples = cell.run(base, seed), reference
    if cell.boxes_by is not None:
        made = boxes_file(cell.boxes_by, base, places)
        run = changed(run, {"data.boxes": str(made.resolve()) if made.exists() else ""})
        samples = load_samples(run.data)
        parts = {
            part: samples.subset({item.name for item in subset.samples})
            for part, subset in parts.items()
        }
    return Trial(
        grid=grid.name,
        cell=cell,
        base=base,
        run=run,
        samples=samples,
        parts=parts,
        config=config_digest(run, samples),
        split=split_digest(parts),
        part=grid.part,
    )


def beginning(run: TrainingRun, stage: str) -> TrainingRun:
    """A run up to one of its stages; what has no part in these is as usual.

    Pre-training sees pictures alone. Stage 1 has no attention loss, and boxes only where they are
    marks to the method.
    """
    run = replace(run, crt=StageSettings(epochs=0), model=ModelSettings())
    if stage == "stage2":
        return run
    run = replace(run, control=ControlSettings(), stage2=StageSettings())
    if stage == "pretrain" or METHODS[run.method].boxes_for(run, None) is None:
        run = replace(run, data=replace(run.data, boxes=""), attention=AttentionSettings())
    if stage == "pretrain":
        cosine = LOSSES[run.loss.name].cosine  # another last layer
        run = replace(
            run,
            loss=run.loss if cosine else LossSettings(),
            sampler=SamplerSettings(),
            stage1=StageSettings(),
        )
        # the method itself says whether there is a gate
        settings = getattr(run, run.method, None)
        run = replace(run, **({run.method: type(settings)()} if settings else {}))
    return run


def boxes_file(source: Generator, base: TrainingRun, places: Places) -> Path:
    """Where the boxes lie that a generator makes."""
    data, settings = base.data, asdict(source)
    if source.segmenter is not None:
        settings["segmenter"] = content_digest(source.segmenter)
    made = digest([data.root, data.layout, data.manifest, data.images, settings])
    return places.work / "boxes" / f"{source.name.replace(' ', '-')}-{made}.csv"


def make_boxes(cell: Cell, base: TrainingRun, places: Places) -> None:
    """Let a cell's generator make its boxes, unless they are there."""
    if cell.boxes_by is not None:
        out = boxes_file(cell.boxes_by, base, places)
        if not out.exists():
            write_boxes(load_samples(base.data), cell.boxes_by, out)


def config_digest(run: TrainingRun, samples: SampleList) -> str:
    """Digest of what shapes a run, wherever it lies: settings, initial weights, boxes used.

    Of the settings only those that are not the usual ones: an option that did not exist when a cell
    was run does not outdate it.
    """
    settings = unusual(run)
    for name in CIRCUMSTANCES:
        settings.pop(name, None)
    for name in ("root", "split", "boxes"):
        settings.get("data", {}).pop(name, None)
    if is_file(run.network.weights):
        settings["network"]["weights"] = content_digest(Path(weights_path(run)))
    boxes = {item.name: item.boxes.tolist() for item in samples.samples if len(item.boxes)}
    attention = run.attention if run.attention.attend else None
    marks = METHODS[run.method].boxes_for(run, attention)
    return digest([settings, {} if marks is None else boxes])


def agree(told: Mapping[str, Any], run: TrainingRun) -> bool:
    """Whether no setting of a result is another one in a run.

    The digest knows only what is unusual, and what is usual may change. Settings that one of the
    two does not have are the digest's affair, and so are initial weights from a file.

    Args:
        told: The settings as the result has them, all that there were.
        run: The run that the result is asked for.
    """
    before, now = shaping(told), shaping(json.loads(json.dumps(asdict(run))))
    if is_file(run.network.weights):
        del now["network.weights"]
    return all(before[key] == value for key, value in now.items() if key in before)


def unusual(run: TrainingRun) -> dict[str, Any]:
    """The settings of a run that differ from the defaults, as plain data by section."""

    def differing(settings: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
        return {
            key: differing(value, usual[key]) if isinstance(value, dict) and key in usual else value
            for key, value in settings.items()
            if key not in usual or value != usual[key]
        }

    return differing(asdict(run), asdict(TrainingRun(name="")))


def split_digest(parts: Parts) -> str:
    """Digest of the lists: picture, part, class and group."""
    return digest(
        [
            [item.name, part, subset.labels[item.label], item.group]
            for part, subset in sorted(parts.items())
            for item in subset.samples
        ]
    )


@cache
def content_digest(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(data: Any) -> str:
    """16 hexadecimal digits that stand for plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def machine() -> str:
    """This machine in a few words, without its name."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {capability}, {torch.get_num_threads()} threads"


def load_of(trial: Trial, stage: Stage) -> str:
    """What decides how long an epoch takes: that of a step, and the lists."""
    pictures = stage.sampler.epoch_pictures or len(trial.parts["train"].samples)
    looked = len(trial.parts["validation"].samples) if stage.method_type.validated else 0
    return f"{step_load(trial, stage)}, {pictures} + {looked} pictures"


def step_load(trial: Trial, stage: Stage) -> str:
    """What decides how long a step takes: method, network, input, batches."""
    run = trial.run
    batch = sampler_of(run, stage, trial.parts["train"], Processes(), 0).batch
    kind = "crt" if stage.classifier_only else stage.method
    side = preprocessing_of(run, stage).size
    return ("" if kind == "care" else f"{kind}: ") + (
        f"{run.network.backbone} at {side} pixels, {run.precision}, batches of {batch}"
    )
