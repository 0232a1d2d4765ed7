"""What a process does first that decodes what strangers sent, and that only its parent ends."""

import resource
import signal
from contextlib import suppress
from pathlib import Path

SPARE_SECONDS = 5
"""How long after its time it ends itself, should nobody be left to do it."""


def expect_the_worst() -> None:
    """Leave signals to the parent, no core file of a patient's picture, and memory to others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # where memory runs out, let it be this process that Linux ends
        Path("/proc/self/oom_score_adj").write_text("1000")
