"""Files on which a decoder crashes or hangs; no real ones are known, so a scorer plays it.

`python -m tests.batch.traps SOURCE MODELS OUT OVERLAYS` scores slowly, so that it can be killed.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from service.batch.files import File, read
from service.batch.job import Job, Row
from service.batch.local import Local, file_pool, through
from service.batch.outputs import Outputs
from service.batch.run import score_sources
from service.batch.scorer import Decoded, Known, Scorer

CRASH, HANG, KILLED = b"CRASH", b"HANG", b"KILLED"


class Trapped(Scorer):
    """A scorer whose decoder does what a file begins with."""

    slow = 0.0

    def decode(self, file: File) -> Decoded | Row:
        time.sleep(self.slow)
        start = read(file)[:10]
        if start.startswith(CRASH):
            os.abort()
        if start.startswith(KILLED):  # as by the kernel, when memory runs out
            os.kill(os.getpid(), signal.SIGKILL)
        if start.startswith(HANG):
            time.sleep(1000)
        return super().decode(file)


class Lenient(Local):
    """Files named hang have the seconds that there are; all others what a busy machine needs."""

    def _in_pool(
        self, work: Callable[..., Any], files: Iterable[File], job: Job, known: Known | None
    ) -> Generator[tuple[File, Any], None, None]:
        make = partial(work, self.make, job, known is not None)
        with file_pool(make, self.workers, self.seconds, known) as pool:
            seconds = pool._seconds
            pool._seconds = lambda task: (
                seconds(task) if any(Path(file.path).name == "hang" for file in task) else 120
            )
            yield from through(pool, files, job.batch, self.seconds)


def make_trapped(slow: float, job: Job, known: Known | None) -> Trapped:
    scorer = Trapped(job, known)
    scorer.slow = slow
    return scorer


def make_other(job: Job, known: Known | None) -> Scorer:
    """Makes a scorer as on a machine that has another model."""
    scorer = Scorer(job, known)
    scorer._stamps["model_sha256"] = "0" * 64
    return scorer


def trapped(
    workers: int = 2, seconds: float = 60, *, central: bool = False, slow: float = 0
) -> Local:
    return Lenient(
        workers=workers, seconds=seconds, central=central, make=partial(make_trapped, slow)
    )


def main() -> None:
    source, models, out, overlays = sys.argv[1:]
    job = Job(models=Path(models), model="square", overlays=True)
    page = Path(out).with_suffix(".html")
    outputs = Outputs(table=Path(out), overlays=Path(overlays), summary=page)
    score_sources([source], job, outputs, importable(trapped(seconds=1, slow=0.02)))


def importable(engine: Local) -> Local:
    """The same, with a scorer that workers can import: this module's name is __main__ here."""
    from tests.batch import traps

    return replace(engine, make=partial(traps.make_trapped, 0.02))


if __name__ == "__main__":
    main()
