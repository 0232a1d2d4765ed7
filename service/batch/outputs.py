"""What a run writes, and under which names."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.batch.evidence import CAPTURE
from service.batch.job import Row
from service.batch.places import Place, Remote, copy
from service.batch.record import record_path

AT_ONCE = 32
"""Objects that are copied side by side."""

LONGEST_NAME = 120
"""Characters of a file's name that the name of its overlay has, at most."""

NAME_BYTES = 255
"""Bytes that file systems take for a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a run writes.

    Attributes:
        table: The table, by its suffix CSV, Parquet or JSON lines.
        overlays: Folder for overlays, or None.
        captures: Folder for Secondary Captures, or None.
        summary: The page that sums it up, or None.
        names: Whether pictures are named like their files, and not by digest; and whether the
            summary names them.
    """

    table: Place
    overlays: Place | None = None
    captures: Place | None = None
    summary: Place | None = None
    names: bool = False

    @property
    def unfinished(self) -> Place:
        """Folder of a run that has not ended; beside the table, where renaming is one step."""
        return self.table.with_name(_temporary(self.table.name))

    @property
    def files(self) -> list[Place]:
        """All that are no pictures."""
        page = [self.summary] if self.summary else []
        return [self.table, record_path(self.table), *page]

    @property
    def folders(self) -> list[Place]:
        """Where pictures go."""
        return [one for one in (self.overlays, self.captures) if one]

    @contextmanager
    def working_folder(self) -> Iterator[Path]:
        """A folder on this machine: `unfinished`, or one that is gone afterwards."""
        if isinstance(self.unfinished, Path):
            self.unfinished.mkdir(exist_ok=True)
            yield self.unfinished
        else:
            with tempfile.TemporaryDirectory(prefix="care-") as folder:
                yield Path(folder)

    def is_begun(self) -> bool:
        """Whether there is anything to go on from."""
        try:
            return self.unfinished.exists()
        except OSError:  # whoever asks has just met it
            return False

    def remove_unfinished(self) -> None:
        """Remove all that only a run that has not ended needs; what cannot be, the next removes."""
        if isinstance(self.unfinished, Path):
            shutil.rmtree(self.unfinished, ignore_errors=True)
        else:
            with suppress(OSError):
                self.unfinished.remove_all()

    def picture(self, number: int, row: Row, ending: str) -> Place:
        """Where a picture of a row belongs."""
        name = str(row["sha256"])[:8]
        if self.names:
            name = re.sub(r"[^\w.-]", "_", row["file"])[-LONGEST_NAME:]
            room = NAME_BYTES - len(_temporary(f"{number:06d}-{ending}").encode())
            name = name.encode()[-room:].decode(errors="ignore")
        return self._folder(ending) / f"{number:06d}-{name}{ending}"

    def former(self, name: str) -> Place:
        """Where a picture of this name is."""
        return self._folder(name) / name

    def _folder(self, ending: str) -> Place:
        folder = self.captures if ending.endswith(CAPTURE) else self.overlays
        assert folder
        return folder


def names_in(folder: Place) -> Callable[[str], bool]:
    """Says whether a folder has a name; object storage is asked once for all of them."""
    if isinstance(folder, Path):
        return lambda name: (folder / name).exists()
    return {info.base_name for info in folder.iterdir()}.__contains__


def link_all(pairs: Sequence[tuple[Place, Place]]) -> None:
    """Let files appear at other places as well; in object storage, many side by side."""
    if all(isinstance(one, Path) for pair in pairs for one in pair):
        for source, target in pairs:
            link(source, target)
    else:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for _ in threads.map(link, *zip(*pairs, strict=True)):
                pass


def publish(finished: Path, target: Place) -> None:
    """Let what a run has written in its working folder appear."""
    if isinstance(target, Path):
        finished.replace(target)
    else:
        copy(finished, target)


def link(source: Place, target: Place) -> None:
    """Let a file appear at another place as well, in one step."""
    if isinstance(source, Remote) or isinstance(target, Remote):
        copy(source, target)
        return
    temporary = target.with_name(_temporary(target.name))
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # renaming does nothing where both are the same file


def _temporary(name: str) -> str:
    return f".{name}.unfinished"


def sync(folder: Place) -> None:
    """See that what was renamed in a folder stays so if the power fails."""
    if isinstance(folder, Remote):
        return  # an object that is there, stays
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
