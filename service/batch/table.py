"""The table: CSV, Parquet or JSON lines, the same rows in each."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from service.batch.errors import BatchError
from service.batch.job import Row
from service.batch.places import Place

Columns = Mapping[str, type]
Write = Callable[[Row], object]

BATCH = 1000
"""Rows that are held as Python objects, which take ten times the room of Arrow's."""

ROW_GROUP = 10 * BATCH
"""Rows of a Parquet file that are written at once, and held in memory until then."""

QUOTED = ";\t\r\n"
"""What csv quotes beside commas and quotes: ends of lines, and what separates cells elsewhere."""

FORMULA = re.compile(r"'*[=+\-@\0\t\r\n\uff1d\uff0b\uff0d\uff20]")  # the last are full-width
"""Begins what a spreadsheet may take for a formula, by OWASP's lists; also behind quote marks."""


@contextmanager
def _write_csv(path: Path, columns: Columns) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(_Lines(file), lineterminator=QUOTED)
        writer.writerow(columns)
        yield lambda row: writer.writerow([_in_csv(value) for value in row.values()])


@dataclass(frozen=True, slots=True)
class _Lines:
    r"""A file whose lines end in \n; csv ends them in `QUOTED`, as it quotes what has that."""

    file: TextIO

    def write(self, line: str) -> None:
        self.file.write(line.removesuffix(QUOTED) + "\n")


def _in_csv(value: Any) -> Any:
    if isinstance(value, str) and FORMULA.match(value):
        return f"'{value}"  # a text, to spreadsheets
    return str(value).lower() if isinstance(value, bool) else value


def _read_csv(path: Path, columns: Columns, skip: int) -> Iterator[Row | None]:
    with path.open(encoding="utf-8", newline="\n") as file:
        reader = csv.reader(file)
        if next(reader, None) == list(columns):
            yield from islice(_rows(reader, columns), skip, None)


def _rows(reader: Iterator[list[str]], columns: Columns) -> Iterator[Row | None]:
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error:  # such as a carriage return, which former versions did not quote
            values = []
        yield _in_columns(values, columns)


def _in_columns(values: list[str], columns: Columns) -> Row | None:
    try:
        pairs = zip(columns.items(), values, strict=True)
        return {name: _from_csv(value, kind) for (name, kind), value in pairs}
    except (ValueError, KeyError):
        return None


def _from_csv(value: str, kind: type) -> Any:
    if value == "":
        return None
    if kind is str and value[0] == "'" and FORMULA.match(value, 1):
        return value[1:]
    return {"true": True, "false": False}[value] if kind is bool else kind(value)


@contextmanager
def _write_jsonl(path: Path, columns: Columns) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as file:
        yield lambda row: file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _read_jsonl(path: Path, columns: Columns, skip: int) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for line in islice(file, skip, None):
            row = json.loads(line)
            if list(row) != list(columns):
                return
            yield row


@contextmanager
def _write_parquet(path: Path, columns: Columns) -> Iterator[Write]:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = _schema(columns)
    waiting: list[Row] = []
    batches: list[Any] = []
    with ParquetWriter(path, schema, compression="zstd") as writer:

        def pack() -> None:
            if waiting:
                batches.append(pyarrow.RecordBatch.from_pylist(waiting, schema))
            waiting.clear()

        def flush() -> None:
            if batches:
                writer.write_table(pyarrow.Table.from_batches(batches, schema))
            batches.clear()

        def write(row: Row) -> None:
            waiting.append(row)
            if len(waiting) == BATCH:
                pack()
            if len(batches) == ROW_GROUP // BATCH:
                flush()

        yield write
        pack()
        flush()


def _read_parquet(path: Path, columns: Columns, skip: int) -> Iterator[Row]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        if file.schema_arrow != _schema(columns):
            return
        groups = list(range(file.num_row_groups))
        while groups and (count := file.metadata.row_group(groups[0]).num_rows) <= skip:
            skip -= count
            del groups[0]
        batches = file.iter_batches(BATCH, row_groups=groups)
        yield from islice(chain.from_iterable(one.to_pylist() for one in batches), skip, None)


def _schema(columns: Columns) -> Any:
    import pyarrow

    kinds = {str: pyarrow.string(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    return pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])


FORMATS: dict[str, tuple[Callable[..., Any], Callable[..., Iterator[Row | None]]]] = {
    ".csv": (_write_csv, _read_csv),
    ".parquet": (_write_parquet, _read_parquet),
    ".jsonl": (_write_jsonl, _read_jsonl),
}
"""How a table is written and read, by the suffix of its name."""


def check_suffix(path: Place) -> None:
    """Refuse a table that nobody knows how to write.

    Raises:
        BatchError: With the suffixes there are.
        ModuleNotFoundError: Parquet needs a library that is not here.
    """
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise ModuleNotFoundError(name="pyarrow")  # now, and not when the table is to be written
    if path.suffix.lower() not in FORMATS:
        raise BatchError(f"{path.name}: expected a name that ends in {', '.join(FORMATS)}")


@contextmanager
def write_table(path: Path, columns: Columns, suffix: str) -> Iterator[Write]:
    """Write rows; they are on the disk when the block ends well.

    Args:
        path: Where to, whatever its suffix.
        columns: Names and types of the columns, in order.
        suffix: One of `FORMATS`.

    Raises:
        OSError: It cannot be written.
    """
    write, _ = FORMATS[suffix.lower()]
    with write(path, columns) as one:
        yield lambda row: one(filled(row, columns))
    with path.open("rb") as file:
        os.fsync(file.fileno())


def filled(row: Row, columns: Iterable[str]) -> Row:
    """A row as a table has it: every column in order, empty ones None."""
    return {name: None if (value := row.get(name)) == "" else value for name in columns}


def read_table(path: Path, columns: Columns, skip: int = 0) -> Iterator[Row | None]:
    """Rows of a table, empty values as None; none at all if it has other columns or is no table.

    In place of a row that is damaged, or names no file, there is None.

    Args:
        path: The table; its suffix is one of `FORMATS`.
        columns: Names and types of the columns it should have, in order.
        skip: How many rows to leave out at the beginning.
    """
    _, read = FORMATS[path.suffix.lower()]
    try:
        for row in read(path, columns, skip):
            yield row if row and row["file"] else None
    except (FileNotFoundError, ValueError, KeyError, csv.Error):
        return
