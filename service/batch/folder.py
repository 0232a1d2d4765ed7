"""A folder in, a table out."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from service.batch.scorer import Job, Scorer, columns
from service.batch.table import csv_table, unfinished
from service.batch.workers import score_files


def scan(folder: Path, *, leave_out: Collection[str] = ()) -> Iterator[str]:
    """Find every file below a folder, hidden ones included.

    Symbolic links are followed, except to a folder one is already in. Memory holds the names of
    the folders one is in, not those of the whole tree.

    Args:
        folder: Where to start.
        leave_out: Files and folders to pass by, as relative paths with forward slashes.

    Yields:
        Relative paths with forward slashes, sorted as such.

    Raises:
        OSError: A folder cannot be listed: its files would be missing without a word.
    """
    return _scan(str(folder), "", (), leave_out)


def _scan(
    folder: str, prefix: str, above: tuple[tuple[int, int], ...], leave_out: Collection[str]
) -> Iterator[str]:
    status = Path(folder).stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        # With its slash, a folder's name sorts where the paths of its files do.
        found = sorted((entry.name + "/" * _is_folder(entry), entry.path) for entry in entries)
    for name, path in found:
        if prefix + name.rstrip("/") in leave_out:
            continue
        if name.endswith("/"):
            yield from _scan(path, prefix + name, (*above, here), leave_out)
        else:
            yield prefix + name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself: reading it will fail, and its row will say why
        return False


def score_folder(job: Job, out: Path, *, workers: int, progress: bool = False) -> Counter[str]:
    """Score every file below a folder and write the table.

    Args:
        job: What to do; its folder is the one that is scored.
        out: The CSV file. It appears when every file has its row, or not at all.
        workers: Processes to use; 0 scores in this one.
        progress: Whether to draw a progress bar on stderr, if that is a terminal.

    Returns:
        How many rows are "ok" and how many "error"; and how many of the first are "forced".

    Raises:
        ModelError: The model is missing or broken.
        OSError: The folder cannot be listed, or the table or an overlay cannot be written.
    """
    labels = Scorer(job).labels  # a model that does not load stops here, not in a worker
    # What we write may lie in the folder, and be there from an earlier run.
    leave_out = _within(
        job.folder, [out, unfinished(out), *([job.overlays] if job.overlays else [])]
    )
    if job.overlays:
        job.overlays.mkdir(parents=True, exist_ok=True)

    counts: Counter[str] = Counter()
    with csv_table(out, columns(labels)) as table:
        total = sum(1 for _ in scan(job.folder, leave_out=leave_out))
        files = scan(job.folder, leave_out=leave_out)
        with closing(score_files(files, job, workers=min(workers, total))) as rows:
            # disable=None: no bar where stderr is no terminal
            for row in tqdm(rows, total=total, unit="file", disable=None if progress else True):
                table.writerow(row)
                counts[str(row["status"])] += 1
                counts["forced"] += row.get("error_code") == "forced"
    return counts


def _within(folder: Path, paths: list[Path]) -> set[str]:
    """Those of the paths that lie below the folder, relative to it."""
    folder = folder.resolve()
    resolved = [path.resolve() for path in paths]
    return {path.relative_to(folder).as_posix() for path in resolved if path.is_relative_to(folder)}
