"""A CSV file that appears complete or not at all."""

import csv
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def unfinished(path: Path) -> Path:
    """Where a table is written until it is complete: beside it, so that renaming is one step."""
    return path.with_name(f".{path.name}.unfinished")


@contextmanager
def csv_table(path: Path, columns: list[str]) -> "Iterator[csv.DictWriter[Any]]":
    """Open a table for writing rows; it appears at `path` when the block ends well.

    Raises:
        OSError: It cannot be written there.
    """
    if path.is_dir():  # else only the renaming would fail, after hours
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(path)
    try:
        # a file name may be no UTF-8; the table is all the same
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            yield writer
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
