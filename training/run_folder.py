"""A run's folder: everything that shaped it, and how far it has come."""

import errno
import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from training.config import TrainingRun
from training.data.samples import SampleList
from training.data.splits import write_split
from training.data.tables import read_rows
from training.errors import ConfigError
from training.files import complete
from training.network import load_saved

PACKAGES = ("torch", "torchvision", "lightning", "numpy", "opencv-python", "onnx", "scikit-learn")

DATA = "data.json"
"""Digests of labels, groups and boxes."""

CIRCUMSTANCES = ("name", "workers", "accelerator", "sheet_every", "model")
"""Settings of a run that do not shape what it learns."""


@dataclass
class Progress:
    """How far a stage has come; saved after every epoch.

    Attributes:
        epoch: Epochs done.
        best: Best validation mean class accuracy so far; -1 before the first epoch.
        best_epoch: When that was.
        history: One row per epoch.
    """

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def write_down(
    run: TrainingRun, samples: SampleList, parts: dict[str, SampleList], folder: Path
) -> None:
    """Put everything that shapes the run into its folder: settings, lists, versions, commit.

    A run goes on under other circumstances, which take the place of the former ones.

    Raises:
        ConfigError: The folder holds a run of at least an epoch, of other settings that shape it,
            lists, labels, groups or boxes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = asdict(run)
    for settings in entries.values():  # TOML has no null: what is None is left out
        if isinstance(settings, dict):
            for key in [key for key, value in settings.items() if value is None]:
                del settings[key]
    resolved, lists = to_toml(entries), _lists(samples, parts)
    written, split = folder / "run.toml", folder / "split.csv"
    if any(folder.glob("*.last.ckpt")) or any(folder.glob("*.safetensors")):
        if written.exists() and (told := _other_settings(written, run)):
            raise ConfigError(
                f"{folder} holds a run with other settings: {told}; remove it or choose another"
            )
        if split.exists() and _read_lists(split) != lists:
            raise ConfigError(
                f"{folder} holds a run with other lists (split.csv), as the data set has changed; "
                "remove it or choose another"
            )
        if changed := _differing(folder, samples, resumed=True):
            raise ConfigError(
                f"{folder} holds a run with other {changed} of the same pictures; remove it or "
                "choose another"
            )
    with complete(written) as part:
        part.write_text(resolved, encoding="utf-8")
    write_split(lists, split)
    _write_json(_digests(samples), folder / DATA)
    facts = {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "seed": run.seed,
    }
    _write_json(facts, folder / "environment.json")


def check_trained(
    run: TrainingRun, samples: SampleList, parts: dict[str, SampleList], folder: Path
) -> None:
    """See that a folder's run was trained with these settings, lists, labels, groups and boxes.

    Raises:
        ConfigError: It was not: a card made of these would be wrong, and pictures that were
            learned from may be in the test list.
    """
    if not (folder / "run.toml").exists():
        raise ConfigError(f"{folder}: no run was trained here; run care train first")
    if told := _other_settings(folder / "run.toml", run):
        raise ConfigError(
            f"{folder} was trained with {told}: name the settings it was trained with"
        )
    if _read_lists(folder / "split.csv") != _lists(samples, parts):
        raise ConfigError(
            f"{folder} was trained with other lists than these: its split.csv has them. The data "
            "set, or the list that data.split names, has changed since"
        )
    if changed := _differing(folder, samples):
        raise ConfigError(
            f"{folder} was trained with other {changed} of the same pictures, which have changed "
            "since: train anew, in another folder"
        )


def _lists(samples: SampleList, parts: dict[str, SampleList]) -> dict[str, str]:
    """Name → list, of all pictures."""
    assigned = {item.name: "unused" for item in samples.samples}  # what `keep` left out stays so
    return assigned | {item.name: part for part, subset in parts.items() for item in subset.samples}


def _read_lists(path: Path) -> dict[str, str]:
    return {row["image"]: row["split"] for row in read_rows(path, "image", "split")}


def _digests(samples: SampleList) -> dict[str, str]:
    """Digests of what is said about the pictures; without boxes where none has any."""
    told: dict[str, dict[str, Any]] = {
        "labels": {item.name: samples.labels[item.label] for item in samples.samples},
        "groups": {item.name: item.group for item in samples.samples},
        "boxes": {item.name: item.boxes.tolist() for item in samples.samples if len(item.boxes)},
    }
    return {
        name: hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        for name, facts in told.items()
        if facts
    }


def _differing(folder: Path, samples: SampleList, *, resumed: bool = False) -> str:
    """What is said otherwise about the pictures than when a folder's run began, in words.

    Boxes that only one of the two has are no difference but to a run that goes on: attention can be
    measured with boxes that nothing was learned from.
    """
    if not (folder / DATA).exists():
        return ""
    before, now = json.loads((folder / DATA).read_text(encoding="utf-8")), _digests(samples)
    told = [name for name in ("labels", "groups", "boxes") if before.get(name) != now.get(name)]
    return " and ".join(name for name in told if resumed or (name in before and name in now))


def _write_json(facts: Mapping[str, Any], path: Path) -> None:
    with complete(path) as part:
        part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _other_settings(written: Path, run: TrainingRun) -> str:
    """The settings that shape what is learned and are not those written down, in words.

    Options that did not exist when they were written down have their defaults.
    """
    before, now = shaping(asdict(TrainingRun.load(written))), shaping(asdict(run))
    return ", ".join(
        f"{key} = {before[key]!r}, not {now[key]!r}" for key in now if before[key] != now[key]
    )


def shaping(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run's settings those that shape what is learned, by "section.key", wherever files lie.

    Args:
        entries: The run as plain data, by section.
    """
    found: dict[str, Any] = {}
    for section, settings in entries.items():
        if section not in CIRCUMSTANCES:
            table = settings if isinstance(settings, dict) else {"": settings}
            found |= {f"{section}.{key}".rstrip("."): value for key, value in table.items()}
    found["network.weights"] = Path(found["network.weights"]).name
    for key in ("data.root", "data.split", "data.boxes"):
        found.pop(key, None)
    return found


def to_toml(entries: Mapping[str, Any], section: str = "") -> str:
    """Settings as TOML: strings, numbers, switches and lists are written as JSON writes them."""
    plain = {key: value for key, value in entries.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in entries.items() if isinstance(value, Mapping)}
    lines = [
        f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()
    ]
    text = "\n".join([*([f"[{section}]"] if section else []), *lines, ""])
    for key, table in tables.items():
        text += "\n" + to_toml(table, f"{section}.{_key(key)}" if section else _key(key))
    return text


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict as safetensors; complete or not at all."""
    with complete(path) as part:
        # the library's own files are for nobody else to read, whatever the umask
        part.write_bytes(save({name: value.contiguous() for name, value in state.items()}))


def save_progress(
    path: Path,
    learning: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    progress: Progress,
) -> None:
    """Write everything that a stage needs to go on; complete or not at all.

    Raises:
        OSError: It cannot be written, for which torch has an error of its own.
    """
    state = {
        "learning": [module.state_dict() for module in learning],
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "progress": asdict(progress),
    }
    try:
        with complete(path) as part:
            torch.save(state, part)
    except RuntimeError as error:
        problem = "cannot be written, is the disk full? The same command goes on"
        raise OSError(errno.EIO, problem, str(path)) from error


def load_progress(
    path: Path, learning: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]
) -> Progress:
    """Put modules and optimizers where a stage stopped; a fresh start where there is no file.

    Raises:
        ConfigError: The file is damaged, or of a version that kept other things.
    """
    if not path.exists():
        return Progress()
    try:
        state: dict[str, Any] = load_saved(path)
        for module, stopped in zip(learning, state["learning"], strict=True):
            module.load_state_dict(stopped)
        for optimizer, stopped in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stopped)
        return Progress(**state["progress"])
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise _no_way_on(path) from error


def epochs_done(folder: Path, stage: str) -> int:
    """How many epochs of a stage are behind: all of them, those of a stopped one, or none.

    Raises:
        ConfigError: What a stopped one left is damaged, or of another version.
    """
    finished, last = folder / f"{stage}.json", folder / f"{stage}.last.ckpt"
    if finished.exists():
        return int(json.loads(finished.read_text(encoding="utf-8"))["epoch"])
    if last.exists():
        try:
            return int(load_saved(last)["progress"]["epoch"])
        except (LookupError, TypeError, ValueError) as error:
            raise _no_way_on(last) from error
    return 0


def _no_way_on(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} is damaged, or was left by another version of this program: no stage can go on "
        "from it. Remove it, and the stage starts anew; the stages before it stay"
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The commit the code is at, with a mark if it was changed since; "" outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()
