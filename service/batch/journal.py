"""What a run has done so far, on disk: whoever starts it again goes on from there.

An SQLite file that one process at a time may have. It keeps a rollback journal and no write-ahead
log: that needs memory shared between processes, which network file systems do not have.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from service.batch.errors import GOES_ON, BatchError
from service.batch.files import File, Found
from service.batch.job import Row, error_row, excused, text
from service.batch.parts import Parts
from service.batch.places import Remote

COMMIT_SECONDS = 1
"""How much work a sudden end may cost."""

PAGE = 1000
"""Files asked for at once."""

TABLES = (
    "CREATE TABLE IF NOT EXISTS made_for (what TEXT NOT NULL)",
    # Names are in the file system's bytes. The identity is that of the file when it was listed; ''
    # is like no other. The row holds values of the columns, as JSON.
    "CREATE TABLE IF NOT EXISTS rows (name BLOB PRIMARY KEY, identity TEXT NOT NULL, sha256 BLOB, "
    "row TEXT NOT NULL) WITHOUT ROWID",
    # Source and key are the order of the table.
    "CREATE TABLE IF NOT EXISTS listing (source INTEGER, key BLOB, name BLOB NOT NULL UNIQUE, "
    "path BLOB NOT NULL, member TEXT NOT NULL, identity TEXT NOT NULL, PRIMARY KEY (source, key)) "
    "WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS former (name TEXT PRIMARY KEY) WITHOUT ROWID",
)

TO_DO = """
    FROM listing LEFT JOIN rows USING (name)
    WHERE (rows.identity IS NULL OR rows.identity = '' OR rows.identity <> listing.identity)
"""


class Journal:
    """The journal of one table. What is written is safe within `COMMIT_SECONDS`.

    Args:
        path: Where it is, or shall be.
        columns: Columns of the table.
        stamps: Columns that are the same in all rows.
        copies: Where in object storage to keep copies of it; None keeps none.

    Attributes:
        reuses: Whether there were rows when stock was taken.

    Raises:
        BatchError: Another process has it, or it cannot be read.
    """

    def __init__(
        self, path: Path, columns: Iterable[str], stamps: Row, copies: Remote | None = None
    ) -> None:
        self._stamps = stamps
        self._columns = [name for name in columns if name not in {"file", "sha256", *stamps}]
        self._what = json.dumps([self._columns, stamps])
        self._parts = Parts(copies, self._what) if copies else None
        self._path = path
        with self._errors():
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("BEGIN EXCLUSIVE")
            for statement in TABLES:
                self._db.execute(statement)
        self._commit()  # or a disk that fills now would take the tables back
        self.reuses = False

    def close(self) -> None:
        """Write what has not been written, and let others have it."""
        with self._errors():
            try:
                if self._db.in_transaction:
                    self._db.execute("COMMIT")
            finally:
                self._db.close()

    def remove(self) -> None:
        """Remove its file, if that can be; others can have a new one, and no one this."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def goes_on(self) -> bool:
        """Whether it holds the beginning of this very run; if not, it is empty from now on."""
        with self._errors():
            going = self._db.execute("SELECT what FROM made_for").fetchall() == [(self._what,)]
            if not going:
                for table in ("made_for", "rows", "listing", "former"):
                    self._db.execute(f"DELETE FROM {table}")
            return going

    def recover(self) -> bool:
        """Take over what its copies hold; whether that is anything.

        Raises:
            OSError: They cannot be read, or none can be written.
        """
        if not self._parts:
            return False
        found = False
        for name, identity, sha256, values in self._parts.load():
            found = True
            self._insert(os.fsencode(name), identity, sha256, values)
            self._commit_now_and_then()
        self._parts.save()  # now, and not when something would be lost
        return found

    def back_up(self) -> None:
        """See that its copies, if there are any, hold all that it does.

        Raises:
            OSError: They cannot be written.
        """
        if self._parts:
            self._parts.save()

    def start(self) -> None:
        """Say that all it shall know from before is in it."""
        with self._errors():
            self._db.execute("DELETE FROM made_for")
            self._db.execute("INSERT INTO made_for VALUES (?)", (self._what,))
            self._commit()

    def seed(self, row: Row) -> None:
        """Take over a row of a former table. Its file has to be read again to see that it fits."""
        self._put(row["file"].encode(), "", row)

    def drop(self, useless: Iterable[bytes]) -> None:
        """Forget rows, by the names that `everything` gives."""
        with self._errors():
            self._db.executemany("DELETE FROM rows WHERE name = ?", ((name,) for name in useless))

    def everything(self) -> Iterator[tuple[bytes, Row]]:
        """All rows there are, whether their files are listed or not, by their names."""
        last = b""
        while page := self._page(
            "SELECT name, sha256, row FROM rows WHERE name > ? ORDER BY name", last
        ):
            for name, sha256, values in page:
                yield name, self._row(name, sha256, values)
            last = page[-1][0]

    def has_rows(self) -> bool:
        """Whether anything would be lost with it."""
        return bool(self._one("SELECT EXISTS (SELECT 1 FROM rows)"))

    def take_stock(self, found: Iterable[tuple[int, Found]]) -> int:
        """Note which files there are now; of two with the same name the first.

        Returns:
            How many there are.
        """
        self.reuses = self.has_rows()
        with self._errors():
            if self.reuses:
                self._db.execute("CREATE INDEX IF NOT EXISTS content ON rows (sha256)")
            self._db.execute("DELETE FROM listing")
        for source, one in found:
            name = os.fsencode(one.file.name)
            own = f"!{one.error.code}: {one.error.problem}" if one.error else one.identity
            with self._errors():
                added = self._db.execute(
                    "INSERT OR IGNORE INTO listing VALUES (?, ?, ?, ?, ?, ?)",
                    (source, one.key, name, os.fsencode(one.file.path), one.file.member, own),
                )
            if one.error and added.rowcount:
                row = error_row(one.file.name, one.error.code, one.error.problem)
                self._put(name, own, row)
            self._commit_now_and_then()
        return self._one("SELECT count(*) FROM listing")

    def left(self) -> int:
        """How many files have no row, or one that may not be theirs any more."""
        return self._one("SELECT count(*)" + TO_DO)

    def to_do(self) -> Iterator[File]:
        """Those files, in order."""
        last: tuple[int, bytes] = (-1, b"")
        while page := self._page(
            f"SELECT source, key, listing.name, path, member, sha256, row {TO_DO} "
            "AND (source, key) > (?, ?) ORDER BY source, key",
            *last,
        ):
            for _, _, name, path, member, sha256, values in page:
                at_hand = sha256 and not excused(self._row(name, sha256, values))
                known = sha256.hex() if at_hand else ""
                yield File(os.fsdecode(name), os.fsdecode(path), member, known)
            last = page[-1][:2]

    def knows(self, sha256: str) -> bool:
        """Whether there is a row for a content."""
        return self._find(b"", sha256) is not None

    def reuse(self, file: File, sha256: str) -> None:
        """Give a file the row that its content had before, under this name or another.

        If that has gone in the meantime, the file is left to do.
        """
        if row := self._find(os.fsencode(file.name), sha256):
            self.put(file, row)

    def put(self, file: File, row: Row) -> None:
        """Note a file's row."""
        name = os.fsencode(file.name)
        own = self._one("SELECT identity FROM listing WHERE name = ?", name)
        values = self._put(name, own, row)
        if self._parts:
            self._parts.add([file.name, own, row.get("sha256"), values])
        self._commit_now_and_then()

    def rows(self) -> Iterator[tuple[File, Row]]:
        """All files listed, in order, with their rows."""
        with self._errors():
            found = self._db.execute(
                "SELECT listing.name, path, member, sha256, row FROM listing "
                "JOIN rows USING (name) ORDER BY source, key"
            )
        for name, path, member, sha256, values in found:
            file = File(os.fsdecode(name), os.fsdecode(path), member)
            yield file, self._row(name, sha256, values)

    def note_former(self, name: str) -> None:
        """Remember a picture that a former table has."""
        with self._errors():
            self._db.execute("INSERT OR IGNORE INTO former VALUES (?)", (name,))

    def placed(self, name: str) -> None:
        """A picture of this name belongs to the new table."""
        with self._errors():
            self._db.execute("DELETE FROM former WHERE name = ?", (name,))

    def left_over(self) -> list[str]:
        """Pictures that only the former table had."""
        with self._errors():
            return [name for (name,) in self._db.execute("SELECT name FROM former")]

    def _put(self, name: bytes, identity: str, row: Row) -> str:
        values = json.dumps([row.get(column) for column in self._columns])
        self._insert(name, identity, row.get("sha256"), values)
        return values

    def _insert(self, name: bytes, identity: str, sha256: str | None, values: str) -> None:
        with self._errors():
            self._db.execute(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)",
                (name, identity, sha256 and bytes.fromhex(sha256), values),
            )

    def _find(self, name: bytes, sha256: str) -> Row | None:
        statement = "SELECT name, sha256, row FROM rows WHERE sha256 = ?"
        content = bytes.fromhex(sha256)
        with self._errors():
            found = (
                self._db.execute(f"{statement} AND name = ?", (content, name)).fetchone()
                or self._db.execute(statement, (content,)).fetchone()
            )
        row = self._row(*found) if found else None
        return None if row and excused(row) else row

    def _row(self, name: bytes, sha256: bytes | None, values: str) -> Row:
        row = dict(zip(self._columns, json.loads(values), strict=True))
        content = sha256.hex() if sha256 else None
        return {"file": text(os.fsdecode(name)), **row, "sha256": content, **self._stamps}

    def _one(self, statement: str, *values: object) -> Any:
        with self._errors():
            return self._db.execute(statement, values).fetchone()[0]

    def _page(self, statement: str, *values: object) -> list[Any]:
        with self._errors():
            return self._db.execute(f"{statement} LIMIT {PAGE}", values).fetchall()

    def _commit_now_and_then(self) -> None:
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        with self._errors():
            self._db.execute("COMMIT")
            self._db.execute("BEGIN EXCLUSIVE")
        self._committed = time.monotonic()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say in a line what SQLite has to say; nothing that was committed is lost by it."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code == sqlite3.SQLITE_BUSY:
                raise BatchError("another run is writing this table") from error
            if code == sqlite3.SQLITE_ERROR:  # a mistake of ours
                raise
            raise BatchError(f"{self._path}: {error}; {GOES_ON}") from error
