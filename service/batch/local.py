"""The engine of one machine: this process, or a pool of processes.

An engine takes files and gives each its row, in any order. It keeps nothing: what is done, in what
order rows stand, and what is written belongs to the run that calls it.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from models.classifier import Provider, best_provider
from models.store import load_one
from service.batch.files import File
from service.batch.job import Job, Row, error_row
from service.batch.scorer import Decoded, Known, Scorer
from service.batch.workers import Lost, Make, Pool

Scored = tuple[File, Row]

Files = tuple[File, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """How to score files on this machine.

    Attributes:
        workers: Processes to use. 0 scores in this one, where nothing ends a decoder that crashes
            or hangs.
        seconds: How long one file may take.
        central: Whether workers only decode and this process runs the model: a GPU is best asked by
            one.
        make: Makes the scorer.
    """

    workers: int
    seconds: float
    central: bool = False
    make: Callable[[Job, Known | None], Scorer] = Scorer

    def __call__(
        self, files: Iterable[File], job: Job, known: Known | None
    ) -> Generator[Scored, None, None]:
        """Score files, which are taken as there is time for them.

        Args:
            files: What to score.
            job: How.
            known: Says of a content's digest whether its row is at hand; the row given then has
                the status `KNOWN`. None where nothing is.

        Raises:
            ModelError: The model cannot be used.
            OSError: What was drawn cannot be written.
        """
        scorer = self.make(job, known)
        if not self.workers:
            for task in _tasks(files, job.batch):
                yield from zip(task, scorer.score(task), strict=True)
        elif self.central:
            yield from _infer(scorer, self._in_pool(decoding, files, job, known))
        else:
            yield from self._in_pool(scoring, files, job, known)

    def _in_pool(
        self, work: Callable[..., Any], files: Iterable[File], job: Job, known: Known | None
    ) -> Generator[tuple[File, Any], None, None]:
        make = partial(work, self.make, job, known is not None)
        with file_pool(make, self.workers, self.seconds, known) as pool:
            yield from through(pool, files, job.batch, self.seconds)


def file_pool(
    make: Make, workers: int, seconds: float, known: Known | None = None
) -> Pool[Files, list[Any]]:
    """A pool whose tasks are files; `seconds` is what one of them may take."""
    return Pool(
        make,
        workers,
        seconds=lambda task: seconds * len(task),
        answer=known or (lambda sha256: False),
    )


def through(
    pool: Pool[Files, list[Any]], files: Iterable[File], size: int, seconds: float
) -> Generator[tuple[File, Any], None, None]:
    """Let the workers of a pool do it, `size` files at a time.

    Of several files in a task that was lost, one is to blame; and a worker may have been ended for
    what others did. So those are tried again one by one, after all the others.
    """
    once_more: list[File] = []
    for task, done in pool.map(_tasks(files, size)):
        if not isinstance(done, Lost):
            yield from zip(task, done, strict=True)
        elif done.why == "timeout" and len(task) == 1:
            yield task[0], _lost(task[0], done, seconds)
        else:
            once_more += task
    for task, done in pool.map((file,) for file in once_more):
        yield task[0], _lost(task[0], done, seconds) if isinstance(done, Lost) else done[0]


def _lost(file: File, lost: Lost, seconds: float) -> Row:
    if lost.why == "timeout":
        problem = f"took too long: not scored within {seconds:g} seconds"
    else:
        problem = "the decoder crashed on this file, or had no memory left"
    return error_row(file.name, lost.why, problem)


def provider_for(models: Path, model: str) -> Provider:
    """What runs a model best here, having seen that it does.

    Raises:
        ModelError: There is no such model, or it is broken.
    """
    best = best_provider()
    return best if best == "cpu" else load_one(models, model, provider=best).active


def _tasks(files: Iterable[File], size: int) -> Iterator[Files]:
    files = iter(files)
    while task := tuple(islice(files, size)):
        yield task


def scoring(make: Callable, job: Job, asks: bool, ask: Known) -> Callable:
    """What a worker does that scores files from beginning to end."""
    scorer = make(job, ask if asks else None)
    scorer.warm_up()
    scorer.classifier  # noqa: B018 - loaded before the first file's time counts
    return scorer.score


def decoding(make: Callable, job: Job, asks: bool, ask: Known) -> Callable:
    """What a worker does where another process has the model."""
    scorer = make(job, ask if asks else None)
    scorer.warm_up()
    return lambda files: [scorer.decode(file) for file in files]


def _infer(scorer: Scorer, decoded: Iterable[tuple[File, Any]]) -> Iterator[Scored]:
    """Run the model on full batches, and on one that is not at the end."""
    waiting: list[tuple[File, Decoded]] = []
    for file, one in decoded:
        if isinstance(one, Decoded):
            waiting.append((file, one))
        else:
            yield file, one
        if len(waiting) == scorer.job.batch:
            yield from _inferred(scorer, waiting)
            waiting = []
    yield from _inferred(scorer, waiting)


def _inferred(scorer: Scorer, waiting: list[tuple[File, Decoded]]) -> Iterator[Scored]:
    rows = scorer.infer([one for _, one in waiting])
    return ((file, row) for (file, _), row in zip(waiting, rows, strict=True))
