"""One cell with one seed: train it, measure it, write its JSON.

Measured straight from the checkpoint in float32, on the pictures as training decoded them, with the
functions of `care evaluate`: a grid compares trainings, and an export of every cell, which is
compared with float64 each time, would take longer than many a training. The exported graph holds
the same numbers within a stated tolerance; that is what the export tests.
"""

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.classifier import Prediction, softmax
from training.calibrate import fit_temperature
from training.config import TrainingRun
from training.data.cache import PictureCache
from training.data.dataset import PictureDataset, attended_labels, evaluation_loader
from training.data.samples import SampleList
from training.evaluate import AttentionFigures, Results, attention_figures
from training.figures import figures
from training.files import complete
from training.fit import train
from training.metrics import mean_class_accuracy
from training.network import Network
from training.release import load_checkpoint, recipe
from training.reproduce.trials import Places, Trial, load_of, machine
from training.run_folder import epochs_done
from training.stages import preprocessing_of

DIGITS = 6  # that count, of probabilities; figures are those of the numbers as written down


def run_trial(trial: Trial, reference: SampleList, places: Places) -> dict[str, Any]:
    """Train a trial through its stages and write its result; go on where it was stopped.

    Args:
        trial: The cell and its seed.
        reference: All pictures with the boxes that attention is measured against: those of the
            base run, wherever the cell's own come from.
        places: Where things lie.

    Returns:
        The result, as written.
    """
    folder, portions, stages = trial.folder(places), trial.portions(places), {}
    for portion in portions:  # here, for decoding is no stage's time
        sized = preprocessing_of(trial.run, portion.stage)
        PictureCache.open(trial.samples, sized, places.cache)
    for done, (stage, run, place) in enumerate(portions):
        for earlier in portions[:done]:
            take_over_stage(earlier.stage.name, earlier.folder, place)
        taken = train_timed(run, place, stage.name, places.cache)
        stages[stage.name] = taken | {"load": load_of(trial, stage)}
    start = time.perf_counter()
    results, validation = measure(trial, folder, reference, places.cache)
    looked = len(trial.parts["validation"].samples) + len(trial.parts[trial.part].samples)
    made = recipe(trial.run, trial.parts, trial.last)
    record = {
        "table": trial.grid,
        "cell": trial.cell.name,
        "title": trial.cell.title,
        "partners": trial.cell.partners,
        "seed": trial.run.seed,
        "config": trial.config,
        "split": trial.split,
        "machine": machine(),
        "environment": json.loads((folder / "environment.json").read_text(encoding="utf-8")),
        "changes": trial.cell.settings,
        "chosen": trial.cell.chosen,
        "run": made["run"],
        "pictures": made["pictures"],
        "rare": rare_labels(trial),
        "stages": stages,
        "evaluation": {"pictures": looked, "seconds": round(time.perf_counter() - start, 2)},
        "validation": {"mean_class_accuracy": validation},
        "figures": figures(results),
        "predictions": to_plain(results),
    }
    write_json(record, trial.file(places))
    return record


def train_timed(run: TrainingRun, folder: Path, stage: str, cache: Path) -> dict[str, Any]:
    """Train a run of which one stage is left; how long that took is kept in the folder.

    Args:
        run: The run, which may have further stages behind this one.
        folder: Its folder.
        stage: Which stage is left.
        cache: Of decoded pictures.

    Returns:
        {"epochs", "seconds"}. Of a stage that was stopped, the epochs before count as long as
        those after; null seconds where there were none after.
    """
    kept = folder / f"{stage}.seconds.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    before = epochs_done(folder, stage)
    start = time.perf_counter()
    train(run, folder, cache=cache, until=stage, look_for_twins=False)  # the grid has looked
    seconds = time.perf_counter() - start
    after = epochs_done(folder, stage)
    fresh = after - before
    taken = {"epochs": after, "seconds": round(seconds * after / fresh, 2) if fresh else None}
    write_json(taken, kept)
    return taken


def take_over_stage(stage: str, source: Path, folder: Path) -> None:
    """Let a run's folder begin with a stage that another one has finished."""
    folder.mkdir(parents=True, exist_ok=True)
    # the .json last: it is what says that a stage is finished
    for suffix in ("safetensors", "method.safetensors", "steps.csv", "png", "json"):
        target = folder / f"{stage}.{suffix}"
        if not target.exists() and (source / target.name).exists():
            with complete(target) as part:
                shutil.copyfile(source / target.name, part)


def rare_labels(trial: Trial) -> list[str]:
    """The classes the table is about: those attended to, or the rarest where all are, or none.

    The same for the arm without attention, whose base run names them.
    """
    labels, train_list = trial.samples.labels, trial.parts["train"]
    chosen = attended_labels(trial.base.attention, train_list)
    if len(chosen) in (0, len(labels)):
        chosen = {int(train_list.counts().argmin())}
    return [labels[number] for number in sorted(chosen)]


def measure(
    trial: Trial, folder: Path, reference: SampleList, cache: Path
) -> tuple[Results, float]:
    """What a trained trial says of the list it is told of, calibrated on its validation list.

    Returns:
        That, and the mean class accuracy on the validation list, by which trials are chosen.
    """
    samples = trial.samples
    _, network = load_checkpoint(trial.run, folder, trial.last, classes=len(samples.labels))
    pictures = PictureCache.open(samples, preprocessing_of(trial.run), cache)
    if trial.run.accelerator != "cpu" and torch.cuda.is_available():
        network.to("cuda")
    known, logits, _ = look(network, trial.parts["validation"], pictures)
    validation = round(mean_class_accuracy(known, logits), DIGITS)
    temperature = fit_temperature(known, logits)
    tested = reference.subset({item.name for item in trial.parts[trial.part].samples})
    truth, logits, maps = look(network, tested, pictures)
    probabilities = significant(softmax(logits.astype(np.float64) / temperature))
    # numbered over all pictures: a patient has the same number whatever the seed
    groups = sorted({item.group for item in reference.samples})
    numbers = {group: number for number, group in enumerate(groups)}
    results = Results(
        labels=samples.labels,
        names=tuple(item.name for item in tested.samples),
        truth=truth,
        groups=np.array([numbers[item.group] for item in tested.samples]),
        probabilities=probabilities,
        attention=attention_of(tested, probabilities, maps, pictures),
    )
    return results, validation


@torch.no_grad()
def look(
    network: Network, samples: SampleList, pictures: PictureCache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N,), logits float32 (N, C) and signed maps of the true class float32 (N, h, w)."""
    device = next(network.parameters()).device
    found = []
    for batch in evaluation_loader(PictureDataset(samples, pictures), 32):
        outputs = network(batch.images.to(device), batch.labels.to(device))
        found.append((batch.labels, outputs.logits.cpu(), outputs.maps.cpu()))
    labels, logits, maps = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    return labels, logits, maps


def significant(values: np.ndarray) -> np.ndarray:
    """Rounded to `DIGITS` that count, so that small ones still differ and keep their ranks."""
    rounded = [float(f"{value:.{DIGITS}g}") for value in values.flat]
    return np.array(rounded).reshape(values.shape)


def attention_of(
    samples: SampleList, probabilities: np.ndarray, maps: np.ndarray, pictures: PictureCache
) -> dict[int, AttentionFigures]:
    """Where the ReLU'd map of the true class falls, of the pictures that have boxes."""
    found = {}
    for row, item in enumerate(samples.samples):
        if len(item.boxes):
            cams = np.zeros((len(samples.labels), *maps.shape[1:]), np.float32)
            cams[item.label] = maps[row].clip(0)
            seen = Prediction(
                labels=samples.labels,
                probabilities=probabilities[row],
                cams=cams,
                placement=pictures.placements[pictures.position(item.name)],
                embedding=np.zeros(0, np.float32),
            )
            found[row] = attention_figures(item, seen)
    return found


def to_plain(results: Results) -> dict[str, Any]:
    """Results as plain data for JSON, column by column."""
    names = tuple(AttentionFigures.__dataclass_fields__)
    return {
        "image": list(results.names),
        "group": results.groups.tolist(),
        "truth": results.truth.tolist(),
        "probabilities": results.probabilities.tolist(),
        "attention": {
            str(row): [round(getattr(seen, name), DIGITS) for name in names]
            for row, seen in results.attention.items()
        },
    }


def results_of(record: dict[str, Any]) -> Results:
    """The results that a cell's JSON holds."""
    told = record["predictions"]
    return Results(
        labels=tuple(record["pictures"]["test"]),
        names=tuple(told["image"]),
        truth=np.array(told["truth"]),
        groups=np.array(told["group"]),
        probabilities=np.array(told["probabilities"]),
        attention={int(row): AttentionFigures(*seen) for row, seen in told["attention"].items()},
    )


def write_json(data: Any, path: Path) -> None:
    """Write plain data; complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, ensure_ascii=False, default=asdict)  # sections are dataclasses
    with complete(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
