"""What the nodes of a Ray cluster do; ray_engine.py asks them to.

A block of Ray Data is a table. Those that come in say which files of which shard are meant, those
that go out have a line for each file: its number in the run, the file, and what became of it.
"""

import pickle
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any

import pyarrow
import ray

from service.batch.decoded import Decoded
from service.batch.files import File
from service.batch.job import Job
from service.batch.local import decoding, file_pool, scoring, through
from service.batch.scorer import Scorer
from service.batch.worker import portable
from service.batch.workers import Pool

Make = Callable[..., Scorer]

FAILED = -1
"""Number of a line that tells of no file, but of why this node can do nothing."""


def shard(first: int, files: Iterable[File]) -> pyarrow.Table:
    """A part of the files of a run, numbered from `first`."""
    packed = [pickle.dumps(file) for file in files]
    return pyarrow.table({"number": range(first, first + len(packed)), "file": packed})


def missing(part: pyarrow.Table, given: bytearray) -> Iterable[File]:
    """The files of a shard that have no row."""
    for line in part.to_pylist():
        if not given[line["number"]]:
            yield pickle.loads(line["file"])


def work(
    block: pyarrow.Table,
    *,
    shards: Sequence[ray.ObjectRef],
    make: Make,
    job: Job,
    seconds: float,
    decodes: bool,
) -> pyarrow.Table:
    """Decode the files of a block, or score them.

    A process of its own does it, which stays for the next block: a decoder that crashes or hangs
    costs its file its row, and nobody has to start again.

    Args:
        block: Which part of which shard.
        shards: All of them.
        make: Makes the scorer.
        job: What to do with each file.
        seconds: How long one of them may take.
        decodes: Whether another process has the model.
    """
    [(part, first, size)] = [line.values() for line in block.to_pylist()]
    lines = ray.get(shards[part]).slice(first, size).to_pylist()
    files = [pickle.loads(line["file"]) for line in lines]
    numbers = {file.name: line["number"] for file, line in zip(files, lines, strict=True)}
    try:
        pool = _pool(pickle.dumps((make, job)), seconds, decodes)
        done = list(through(pool, files, job.batch, seconds))
    except Exception as error:
        _pool.cache_clear()
        return _failed(error)
    return _block((numbers[file.name], file, result) for file, result in done)


@lru_cache(maxsize=1)
def _pool(packed: bytes, seconds: float, decodes: bool) -> Pool:
    make, job = pickle.loads(packed)
    # Nobody ends its worker: it leaves when this process does.
    return file_pool(partial(decoding if decodes else scoring, make, job, False), 1, seconds)


class Infer:
    """An actor that has the model in memory, on its share of a GPU."""

    def __init__(self, make: Make, job: Job) -> None:
        self._error: Exception | None = None
        try:
            self._scorer = make(job, None)
            self._scorer.classifier  # noqa: B018 - loaded before the first block comes
        except Exception as error:  # told with the first block; an actor that dies tells nothing
            self._error = error

    def __call__(self, block: pyarrow.Table) -> pyarrow.Table:
        """Give decoded files their rows; what is a row already stays."""
        if self._error:
            return _failed(self._error)
        lines = list(results(block))
        if any(number == FAILED for number, _, _ in lines):
            return block
        decoded = [result for _, _, result in lines if isinstance(result, Decoded)]
        try:
            rows = iter(self._scorer.infer(decoded))
        except Exception as error:
            return _failed(error)
        return _block(
            (number, file, next(rows) if isinstance(result, Decoded) else result)
            for number, file, result in lines
        )


def results(block: pyarrow.Table) -> Iterable[tuple[int, File, Any]]:
    """What a block that comes out says: each file's number, the file, and what became of it.

    For `FAILED` that is the error.
    """
    for line in block.to_pylist():
        yield line["number"], pickle.loads(line["file"]), pickle.loads(line["result"])


def _block(lines: Iterable[tuple[int, File, Any]]) -> pyarrow.Table:
    numbers, files, results = zip(*lines, strict=True)
    packed = pyarrow.array(map(pickle.dumps, results), pyarrow.large_binary())
    return pyarrow.table(
        {"number": numbers, "file": [pickle.dumps(file) for file in files], "result": packed}
    )


def _failed(error: Exception) -> pyarrow.Table:
    return _block([(FAILED, File("", ""), portable(error))])
