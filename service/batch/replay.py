"""A row of a table, worked out once more from its file."""

import hashlib
from collections.abc import Iterator
from contextlib import chdir, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imaging.errors import ImagingError
from models.store import load_card
from service.batch.errors import BatchError
from service.batch.files import read
from service.batch.job import Job, Row, columns, digest, error_row
from service.batch.local import Local
from service.batch.record import changes, read_record, recorded_job, recorded_labels
from service.batch.sources import Found, find_moved, find_named
from service.batch.table import check_suffix, filled, read_table

NOT_COMPARED = "duration_ms"

MOVED = "--source says where it is now"


@dataclass(frozen=True, slots=True)
class Replay:
    """A row as it would be now.

    Attributes:
        differences: Columns that would not be what they are: name, value in the table, value now.
        changes: What has changed since then and may be why, in words.
    """

    differences: list[tuple[str, Any, Any]]
    changes: list[str]


def replay(
    table: Path,
    number: int,
    *,
    source: str | None = None,
    models: Path | None = None,
    seconds: float = 120,
) -> Replay:
    """Work out a row again, as the record beside the table says it was.

    Args:
        table: The table.
        number: Of the row, counted from 1.
        source: Where its file is now: the file itself, or what holds it.
        models: Folder of models, in place of the one recorded.
        seconds: How long the file may take.

    Raises:
        BatchError: The record, the row or the file is not there, or they do not belong together.
        ModelError: The model is not there, or cannot be used.
        OSError: Table or record cannot be read.
    """
    entries = read_record(table)
    row = _row(table, number, entries)
    job = recorded_job(entries, models)
    card = load_card(job.models, job.model)
    if card.sha256 != row["model_sha256"]:
        raise BatchError(
            f"row {number} was scored by the model with digest {row['model_sha256']}; "
            f"{job.model} now has {card.sha256}; --models names another folder"
        )
    given = [one["given"] for one in entries["sources"]]
    folder = Path(entries["working_directory"])
    if source is not None:
        found = _same_content(find_moved(source, row["file"]), row, number)
        again = _score(found, job, seconds)
    else:
        # where the command was given, as paths may be relative
        with chdir(folder) if folder.is_dir() else nullcontext():
            found = _same_content(find_named(given, row["file"]), row, number)
            again = _score(found, job, seconds)
    again |= {
        "file": row["file"],
        "model_sha256": card.sha256,
        "options_sha256": digest(job.options(card)),
    }
    differences = [
        (name, row[name], value)
        for name, value in filled(again, row).items()
        if name != NOT_COMPARED and value != row[name]
    ]
    return Replay(differences, changes(entries, job, card) if differences else [])


def _row(table: Path, number: int, entries: dict[str, Any]) -> Row:
    """A row of the table, having seen that the record is that of this table."""
    check_suffix(table)
    table.stat()
    total = sum(entries["counts"]["status"].values())
    if number > total:
        raise BatchError(f"there is no row {number}: the table has {total}")
    kinds = columns(recorded_labels(entries))
    row = next(read_table(table, kinds, skip=number - 1), {})
    if row is None:
        raise BatchError(f"row {number} is damaged: expected {len(kinds)} values, the first a name")
    if row.get("options_sha256") != entries["options_sha256"]:
        raise BatchError("the record beside the table is not that of this table")
    return row


def _same_content(candidates: Iterator[Found], row: Row, number: int) -> Found:
    """The file of a row, known by its content where that was ever read."""
    wrong = f"the file of row {number} is not where it was; {MOVED}"
    try:
        for found in candidates:
            if not row["sha256"]:
                return found
            try:
                if hashlib.sha256(read(found.file)).hexdigest() == row["sha256"]:
                    return found
                wrong = f"the file of row {number} has changed: its digest is another; {MOVED}"
            except ImagingError as error:
                wrong = f"the file of row {number}: {error.problem}; {MOVED}"
    except OSError as error:
        wrong = f"the source of row {number}: {error.strerror}; {MOVED}"
    raise BatchError(wrong)


def _score(found: Found, job: Job, seconds: float) -> Row:
    """Its row now; in a process of its own, for it may be a file that crashes or hangs."""
    if found.error:
        return error_row(found.file.name, found.error.code, found.error.problem)
    [(_, row)] = Local(workers=1, seconds=seconds)([found.file], job, None)
    return row
