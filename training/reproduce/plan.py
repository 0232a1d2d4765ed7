"""What is still to do, and how long it will take: cells times measured seconds."""

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from lightning.fabric import Fabric

from training.data.dataset import Batch
from training.fit import stages_of
from training.losses import CrossEntropy
from training.methods import Processes
from training.methods.care import training_step
from training.network import build_network
from training.reproduce.trials import Places, Trial, batch_of, load_of, machine

TIMED_STEPS = 2  # after one that warms up


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a network is.

    Attributes:
        epoch: Seconds per epoch of training, validation included.
        look: Seconds per picture when only looked at.
        source: Where this is from.
    """

    epoch: float
    look: float
    source: str


@dataclass(frozen=True, slots=True)
class Step:
    """A trial as planned.

    Attributes:
        trial: Which.
        done: Whether its result is there.
        stage1: Seconds its first stage will take at most; 0 where it is there, or another trial
            before it makes it.
        stage2: Those of its second stage; 0 where it is there.
        look: Those of the measurement.
    """

    trial: Trial
    done: bool
    stage1: float = 0.0
    stage2: float = 0.0
    look: float = 0.0

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.stage1 + self.stage2 + self.look


@dataclass(frozen=True, slots=True)
class Plan:
    """A grid as planned.

    Attributes:
        steps: Its trials, in order.
        paces: How fast each network is, by its load.
    """

    steps: list[Step]
    paces: dict[str, Pace]

    @property
    def seconds(self) -> float:
        """All that is to do, at most."""
        return sum(step.seconds for step in self.steps)

    def __str__(self) -> str:
        """The plan as lines for people."""
        lines = [
            f"{load}: {pace.epoch:.2g} s per epoch by {pace.source}"
            for load, pace in self.paces.items()
        ]
        lines += ["", f"{'cell':<28}{'seed':>5}{'stage 1':>10}{'stage 2':>10}{'measure':>10}"]
        for step in self.steps:
            name = f"{step.trial.cell.name:<28}{step.trial.run.seed:>5}"
            costs = "".join(f"{duration(s):>10}" for s in (step.stage1, step.stage2, step.look))
            lines.append(name + ("      done" if step.done else costs))
        done = sum(step.done for step in self.steps)
        first = sum(bool(step.stage1) for step in self.steps)
        lines.append(
            f"{len(self.steps)} cells: {done} done, {len(self.steps) - done} to do with {first} "
            f"first stages among them; {duration(self.seconds)} at most, as stages may stop early"
        )
        return "\n".join(lines)


def make_plan(trials: Iterable[Trial], places: Places) -> Plan:
    """Plan trials in order; the networks that no result tells of are timed on this machine."""
    known = list(finished_records(places))
    paces: dict[str, Pace] = {}
    begun: set[str] = set()
    steps = []
    for trial in trials:
        if trial.result(places):
            steps.append(Step(trial, True))
            continue
        if (load := load_of(trial)) not in paces:
            paces[load] = pace_from_records(load, known) or pace_by_timing(trial)
        pace = paces[load]
        first, folder = trial.first_folder(places), trial.folder(places)
        begins = str(first) not in begun and not (first / "stage1.json").exists()
        begun.add(str(first))
        # cells of several tables share the second stage as well
        goes_on = str(folder) not in begun and not (folder / "stage2.json").exists()
        begun.add(str(folder))
        looked = sum(len(trial.parts[part].samples) for part in ("validation", "test"))
        steps.append(
            Step(
                trial,
                False,
                stage1=pace.epoch * trial.run.stage1.epochs * begins,
                stage2=pace.epoch * trial.run.stage2.epochs * goes_on,
                look=pace.look * looked,
            )
        )
    return Plan(steps, paces)


def finished_records(places: Places) -> Iterable[dict[str, Any]]:
    """Every result there is, of whatever table."""
    for path in sorted(places.results.glob("*/*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def pace_from_records(load: str, records: Iterable[Mapping[str, Any]]) -> Pace | None:
    """Median of what the same network took on this machine with as many pictures."""
    epochs, looks = [], []
    for record in records:
        if record["machine"] == machine() and record["load"] == load:
            epochs += [
                stage["seconds"] / stage["epochs"]
                for stage in record["stages"].values()
                if stage["seconds"] is not None
            ]
            looks.append(record["evaluation"]["seconds"] / record["evaluation"]["pictures"])
    return Pace(median(epochs), median(looks), f"{len(looks)} finished cells") if epochs else None


def pace_by_timing(trial: Trial) -> Pace:
    """Time a few steps of a trial's network at its size on this machine, on noise."""
    run = trial.run
    fabric = Fabric(accelerator=run.accelerator, devices=1, precision=run.precision)  # type: ignore[arg-type]
    stage = stages_of(run)[-1]
    batch_size = batch_of(trial)
    pictures = run.sampler.epoch_pictures or len(trial.parts["train"].samples)
    network = build_network(
        run.network.backbone, len(trial.samples.labels), map_layer=run.network.map_layer
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)
    model, optimizer = fabric.setup(network, optimizer)
    side, half = run.input.size, batch_size // 2
    inside = torch.zeros(half, side, side)
    inside[:, : side // 2] = 1
    batch = Batch(
        images=torch.randint(0, 256, (batch_size, side, side, 3), dtype=torch.uint8),
        labels=torch.zeros(batch_size, dtype=torch.int64),
        boxed=torch.arange(half),
        inside=inside,
        outside=1 - inside,
        partners=torch.zeros(batch_size, dtype=torch.int64),
        shares=torch.ones(batch_size),
    ).to(fabric.device)
    classify = CrossEntropy(torch.ones(len(trial.samples.labels)))

    def learn() -> None:
        losses = training_step(model, batch, classify, stage.care, Processes(fabric).mean)
        optimizer.zero_grad()
        fabric.backward(losses.total)
        optimizer.step()
        losses.total.item()  # a GPU is done when its numbers are here

    @torch.no_grad()
    def look() -> None:
        model(batch.images, batch.labels).logits.sum().item()

    step = _seconds(learn)
    glance = _seconds(look) / batch_size
    validated = len(trial.parts["validation"].samples)
    return Pace(
        step * math.ceil(pictures / batch_size) + glance * validated,
        glance,
        f"{TIMED_STEPS} timed steps",
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
