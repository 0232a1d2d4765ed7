"""What is still to do, and how long it will take: cells times measured seconds."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

import torch
from lightning.fabric import Fabric

from training.data.dataset import Batch
from training.fit import set_up, train_step, training_mode
from training.methods import Processes
from training.reproduce.trials import Places, Trial, load_of, machine, step_load
from training.stages import Stage, network_of, preprocessing_of, sampler_of

TIMED_STEPS = 2  # after one that warms up
STAGES = {"pretrain": "pre-training", "stage1": "stage 1", "stage2": "stage 2", "crt": "cRT"}
"""Stages, and how people call them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a network is at a stage.

    Attributes:
        epoch: Seconds per epoch of training, validation included.
        look: Seconds per picture when only looked at.
        source: Where this is from.
    """

    epoch: float
    look: float
    source: str


class Timing(NamedTuple):
    """Seconds of a training step, and per picture when only looked at."""

    step: float
    look: float


@dataclass(frozen=True, slots=True)
class Step:
    """A trial as planned.

    Attributes:
        trial: Which.
        done: Whether its result is there.
        stages: Seconds that each of its stages will take if none stops early; without those that
            are there, or that another trial before it makes.
        look: Those of the measurement.
    """

    trial: Trial
    done: bool
    stages: dict[str, float] = field(default_factory=dict)
    look: float = 0.0

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(self.stages.values()) + self.look


@dataclass(frozen=True, slots=True)
class Plan:
    """A grid as planned.

    Attributes:
        steps: Its trials, in order.
        paces: How fast each network is at each kind of stage, by its load.
    """

    steps: list[Step]
    paces: dict[str, Pace]

    @property
    def seconds(self) -> float:
        """All that is to do, if no stage stops early; to start and to write not counted."""
        return sum(step.seconds for step in self.steps)

    def __str__(self) -> str:
        """The plan as lines for people."""
        lines = [
            f"{load}: {pace.epoch:.2g} s per epoch by {pace.source}"
            for load, pace in self.paces.items()
        ]
        shown = [name for name in STAGES if any(name in step.stages for step in self.steps)]
        titles = [*(STAGES[name] for name in shown), "measure"]
        lines += ["", f"{'cell':<28}{'seed':>5}" + "".join(f"{title:>14}" for title in titles)]
        for step in self.steps:
            name = f"{step.trial.cell.name:<28}{step.trial.run.seed:>5}"
            seconds = [*(step.stages.get(stage, 0.0) for stage in shown), step.look]
            costs = "".join(f"{duration(each):>14}" for each in seconds)
            lines.append(name + (f"{'done':>14}" if step.done else costs))
        done = sum(step.done for step in self.steps)
        first = sum("stage1" in step.stages for step in self.steps)
        lines.append(
            f"{len(self.steps)} cells: {done} done, {len(self.steps) - done} to do with {first} "
            f"first stages among them; {duration(self.seconds)}, less where a stage stops early, "
            "and some seconds a cell to start and to write"
        )
        return "\n".join(lines)


def make_plan(trials: Iterable[Trial], places: Places) -> Plan:
    """Plan trials in order; the networks that no result tells of are timed on this machine."""
    known = list(finished_records(places))
    paces: dict[str, Pace] = {}
    timings: dict[str, Timing] = {}
    begun: set[str] = set()
    steps = []
    for trial in trials:
        if trial.result(places):
            steps.append(Step(trial, True))
            continue
        stages = {}
        for stage, _, folder in trial.portions(places):
            load = load_of(trial, stage)
            if load not in paces:
                paces[load] = pace_from_records(load, known) or pace_by_timing(
                    trial, stage, timings
                )
            # cells of this and of other tables share their stages
            if str(folder) not in begun and not (folder / f"{stage.name}.json").exists():
                stages[stage.name] = paces[load].epoch * stage.settings.epochs
            begun.add(str(folder))
        looked = sum(len(trial.parts[part].samples) for part in ("validation", trial.part))
        steps.append(Step(trial, False, stages, paces[load].look * looked))
    return Plan(steps, paces)


def finished_records(places: Places) -> Iterable[dict[str, Any]]:
    """Every result there is, of whatever table."""
    for path in sorted(places.results.glob("*/*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def pace_from_records(load: str, records: Iterable[Mapping[str, Any]]) -> Pace | None:
    """Median of what the same network took on this machine with as many pictures."""
    epochs, looks = [], []
    for record in records:
        if record["machine"] == machine():
            own = [
                stage["seconds"] / stage["epochs"]
                for stage in record["stages"].values()
                if stage.get("load", record.get("load")) == load and stage["seconds"] is not None
            ]
            if own:
                epochs += own
                looks.append(record["evaluation"]["seconds"] / record["evaluation"]["pictures"])
    return Pace(median(epochs), median(looks), f"{len(looks)} finished cells") if epochs else None


def pace_by_timing(trial: Trial, stage: Stage, timings: dict[str, Timing]) -> Pace:
    """How fast a trial's stage is, by a few steps on this machine; what the loader takes is not in.

    Args:
        trial: With its lists.
        stage: One of its stages.
        timings: Those there are, by the load of a step; a missing one is added.
    """
    load = step_load(trial, stage)
    timing = timings[load] = timings.get(load) or time_steps(trial, stage)
    batches = sampler_of(trial.run, stage, trial.parts["train"], Processes(), 0)
    validated = len(trial.parts["validation"].samples) if stage.method_type.validated else 0
    return Pace(
        timing.step * len(batches) + timing.look * validated,
        timing.look,
        f"{TIMED_STEPS} timed steps",
    )


def time_steps(trial: Trial, stage: Stage) -> Timing:
    """Time a few steps of a trial's stage at its size, on noise."""
    run, train_list = trial.run, trial.parts["train"]
    fabric = Fabric(accelerator=run.accelerator, devices=1, precision=run.precision)  # type: ignore[arg-type]
    batches = sampler_of(run, stage, train_list, Processes(), 0)
    network = network_of(run, len(trial.samples.labels))
    network.freeze_features(stage.classifier_only)
    method, model, optimizers = set_up(fabric, network, run, stage, train_list, batches.batch)
    side = preprocessing_of(run, stage).size
    batch = noise(batches.batch, side, views=1 + stage.method_type.two_views)
    batch = batch.to(fabric.device)

    training_mode(model, run, stage)

    def learn() -> None:
        losses = train_step(fabric, model, method, optimizers, batch)
        losses["loss"].item()  # a GPU is done when its numbers are here

    @torch.no_grad()
    def look() -> None:
        with torch.autocast(fabric.device.type, enabled=False):  # as an epoch is judged
            network(batch.images, batch.labels).logits.sum().item()

    step = _seconds(learn)
    network.eval()
    return Timing(step, _seconds(look) / batches.batch)


def noise(count: int, side: int, *, views: int) -> Batch:
    """So many pictures of noise, all of the first class and with a box: no batch takes longer."""
    inside = torch.zeros(count, side, side)
    inside[:, : side // 2] = 1
    first, *second = torch.randint(0, 256, (views, count, side, side, 3), dtype=torch.uint8)
    return Batch(
        first,
        labels=torch.zeros(count, dtype=torch.int64),
        boxed=torch.arange(count),
        inside=inside,
        outside=1 - inside,
        partners=torch.zeros(count, dtype=torch.int64),
        shares=torch.ones(count),
        **({"second": second[0]} if second else {}),
    )


def _seconds(call: Any) -> float:
    call()
    start = time.perf_counter()
    for _ in range(TIMED_STEPS):
        call()
    return (time.perf_counter() - start) / TIMED_STEPS


def duration(seconds: float) -> str:
    """Seconds in words a person plans with."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
