"""How a table was made, in a file beside it."""

import json
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from models.card import ModelCard
from service.batch.errors import BatchError
from service.batch.job import AFTER, BEFORE, Job, columns, digest, library_version
from service.batch.places import Place, is_remote

At = TypeVar("At", bound=Place)

RECORD = ".run.json"
"""How its name ends, behind the table's."""

FORMAT = 1
"""Goes up when an entry changes its meaning."""

ENTRIES = {
    *("working_directory", "sources", "model", "options", "options_sha256"),
    *("columns", "counts", "versions"),
}
"""What no row can be replayed without."""

LIBRARIES = (
    "care-diagnosis",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python",
    "pillow",
    "pydicom",
    "pylibjpeg-openjpeg",
    "python-gdcm",
    "pyjpegls",
)
"""Whose versions a row may depend on."""


def record_path(out: At) -> At:
    """Where the record of a table is."""
    return cast(At, out.with_name(f"{out.name}{RECORD}"))


def record(
    sources: Sequence[str],
    job: Job,
    card: ModelCard,
    folders: Sequence[Place],
    counts: dict[str, Any],
) -> str:
    """The record as JSON, the same for the same run; `folders` have what was drawn."""
    options = job.options(card)
    entries: dict[str, Any] = {
        "format": FORMAT,
        "working_directory": str(Path.cwd()),
        "sources": [
            {"given": one, "absolute": one if is_remote(one) else str(Path(one).absolute())}
            for one in sources
        ],
        "model": {
            "name": card.name,
            "version": card.version,
            "sha256": card.sha256,
            "folder": str((job.models / card.name).absolute()),
        },
        "options": options,
        "options_sha256": digest(options),
        "drawn": [_real(one) for one in folders],
        "columns": list(columns(card.labels)),
        "counts": counts,
        "versions": _versions(),
    }
    return json.dumps(entries, indent=1) + "\n"


def check_folders(table: Place, folders: Sequence[Place]) -> None:
    """See that no other table beside this one has pictures of its own in these folders.

    Pictures are named by row and content: another model's of the same file would take their place.
    Tables in object storage are not looked for, as there may be millions of objects beside them.

    Raises:
        BatchError: One has.
    """
    if not isinstance(table, Path):
        return
    for path in sorted(table.parent.glob(f"*{RECORD}")):
        other = path.with_name(path.name.removesuffix(RECORD))
        if other.name == table.name or not other.exists():
            continue
        drawn = _drawn(other)
        for folder in folders:
            if _real(folder) in drawn and any(folder.iterdir()):
                raise BatchError(
                    f"{folder} has the pictures of {other}; give each table a folder of its own"
                )


def read_record(out: Path) -> dict[str, Any]:
    """The record of a table.

    Raises:
        BatchError: It is not there, or is none.
        OSError: It cannot be read.
    """
    path = record_path(out)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BatchError(f"{path} is not there; it says how the table was made") from error
    except ValueError as error:
        raise BatchError(f"{path} is no record of a table") from error
    if not isinstance(entries, dict) or entries.get("format") != FORMAT or ENTRIES - set(entries):
        raise BatchError(
            f"{path} is no record that a row can be replayed from; care score with the same "
            "arguments writes one"
        )
    return entries


def recorded_job(entries: dict[str, Any], models: Path | None) -> Job:
    """What was done with every file of a run; nothing that is drawn is kept.

    Args:
        entries: The record.
        models: Folder of models, in place of the one recorded.
    """
    options, model = entries["options"], entries["model"]
    include, exclude = (
        {key: tuple(values) for key, values in wishes.items()}
        for wishes in (options["include"], options["exclude"])
    )
    return Job(
        models=models.absolute() if models else Path(model["folder"]).parent,
        model=model["name"],
        provider=options["provider"],
        batch=options["batch"],
        frame=options["frame"],
        force=options["force"],
        include=include,
        exclude=exclude,
        overlays=options["overlays"],
        captures=options["captures"],
        draw=options["draw"] if isinstance(options["draw"], str) else tuple(options["draw"]),
    )


def recorded_labels(entries: dict[str, Any]) -> tuple[str, ...]:
    """The labels whose probabilities the table of a record has."""
    probabilities = entries["columns"][len(BEFORE) : -len(AFTER)]
    return tuple(name.removeprefix("p_") for name in probabilities)


def changes(entries: dict[str, Any], job: Job, card: ModelCard) -> list[str]:
    """What a row may differ for: libraries and options that are not those of the record."""
    was = entries["versions"] | entries["options"]
    now = _versions() | job.options(card)
    return [
        f"{name} was {was.get(name)}, is {now.get(name)}"
        for name in {**was, **now}
        if was.get(name) != now.get(name)
    ]


def _drawn(table: Path) -> list[str]:
    """Folders that have the pictures of a table, as far as its record can be read."""
    with suppress(BatchError, OSError):
        return read_record(table).get("drawn") or []
    return []


def _real(one: Place) -> str:
    """A place by the one name that all ways to it share."""
    return str(one.resolve() if isinstance(one, Path) else one)


def _versions() -> dict[str, str]:
    libraries = {name: found for name in LIBRARIES if (found := library_version(name))}
    return {"python": platform.python_version(), **libraries}
