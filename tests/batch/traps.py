"""Files on which a decoder crashes or hangs; no real ones are known, so a scorer plays it."""

import os
import signal
import time
from functools import partial

from service.batch.files import File, read
from service.batch.job import Row
from service.batch.local import Local
from service.batch.scorer import Decoded, Scorer

CRASH, HANG, KILLED, MISTAKE = b"CRASH", b"HANG", b"KILLED", b"MISTAKE"


class Trapped(Scorer):
    """A scorer whose decoder does what a file begins with."""

    def decode(self, file: File) -> Decoded | Row:
        start = read(file)[:10]
        if start.startswith(CRASH):
            os.abort()
        if start.startswith(KILLED):  # as by the kernel, when memory runs out
            os.kill(os.getpid(), signal.SIGKILL)
        if start.startswith(HANG):
            time.sleep(1000)
        return super().decode(file)


def trapped(workers: int = 2, seconds: float = 60, *, central: bool = False) -> Local:
    return Local(workers=workers, seconds=seconds, central=central, make=partial(Trapped))
