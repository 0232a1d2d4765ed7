"""Copies of a journal beside a table in object storage, from which another machine can go on.

Objects cannot be added to. So every while what is new becomes an object of its own, which nobody
changes; all of them together are the journal. Two runs at once do not disturb each other: they do
the same work, and the last to end writes the same table.
"""

import gzip
import json
import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

from service.batch.places import Remote

SECONDS = 30
"""How much work the loss of a machine may cost."""

MOST = 20_000
"""Entries that one part has, and that are held in memory, at most."""


class Parts:
    """The parts of one table's journal.

    Args:
        folder: Where they are.
        what: What the journal is for; parts that are for something else are left alone.
    """

    def __init__(self, folder: Remote, what: str) -> None:
        self._folder = folder
        self._what = what
        self._waiting: list[Any] = []
        self._saved = time.monotonic()

    def load(self) -> Iterator[Any]:
        """What was added by runs before this one, in that order.

        Raises:
            OSError: It cannot be read.
        """
        for name in sorted(info.base_name for info in self._folder.iterdir()):
            lines = gzip.decompress((self._folder / name).read_bytes()).splitlines()
            if lines and json.loads(lines[0]) == self._what:
                yield from map(json.loads, lines[1:])

    def add(self, entry: Any) -> None:
        """Note an entry, which JSON can hold; it is safe within `SECONDS`.

        Raises:
            OSError: It cannot be written.
        """
        self._waiting.append(entry)
        if len(self._waiting) >= MOST or time.monotonic() - self._saved > SECONDS:
            self.save()

    def save(self) -> None:
        """Write what has not been written, if only that there is nothing yet.

        Raises:
            OSError: It cannot be written.
        """
        lines = "\n".join(map(json.dumps, [self._what, *self._waiting]))
        name = f"{time.time_ns():020}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl.gz"
        (self._folder / name).write_bytes(gzip.compress(lines.encode(), compresslevel=6))
        self._waiting.clear()
        self._saved = time.monotonic()
