"""What a run writes, and under which names."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from service.batch.evidence import CAPTURE
from service.batch.job import Row
from service.batch.record import record_path

LONGEST_NAME = 120
"""Characters of a file's name that the name of its overlay has, at most."""


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

    table: Path
    overlays: Path | None = None
    captures: Path | None = None
    summary: Path | None = None
    names: bool = False

    @property
    def unfinished(self) -> Path:
        """Folder of a run that has not ended; beside the table, where renaming is one step."""
        return self.table.with_name(f".{self.table.name}.unfinished")

    @property
    def files(self) -> list[Path]:
        """All that are no pictures."""
        page = [self.summary] if self.summary else []
        return [self.table, record_path(self.table), *page]

    def picture(self, number: int, row: Row, ending: str) -> Path:
        """Where a picture of a row belongs."""
        name = str(row["sha256"])[:8]
        if self.names:
            name = re.sub(r"[^\w.-]", "_", row["file"])[-LONGEST_NAME:]
        return self._folder(ending) / f"{number:06d}-{name}{ending}"

    def former(self, name: str) -> Path:
        """Where a picture of this name is."""
        return self._folder(name) / name

    def _folder(self, ending: str) -> Path:
        folder = self.captures if ending.endswith(CAPTURE) else self.overlays
        assert folder
        return folder


def link(source: Path, target: Path) -> None:
    """Let a file appear at another place as well, in one step."""
    temporary = target.with_name(f".{target.name}.unfinished")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # renaming does nothing where both are the same file


def sync(folder: Path) -> None:
    """See that what was renamed in a folder stays so if the power fails."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
