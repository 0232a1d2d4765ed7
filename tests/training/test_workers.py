"""Nothing works on for a training or a making of boxes that was killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest

from tests.training.tiny import sample, sample_list
from training.boxes.pool import map_pictures
from training.data.dataset import Draw, PictureDataset, loader

PATIENCE = 120  # seconds, on a busy machine


def work(*_: Any) -> None:
    """Say so, as a worker, and take a moment for it."""
    print("working", flush=True)
    time.sleep(0.2)


class Working:
    """A data set that takes as long."""

    collate = staticmethod(list)
    __getitem__ = work


def batches(folder: str) -> None:
    """Make batches as a training does, for ever."""
    endless: Iterator[list[Draw]] = iter(lambda: [Draw(0)], None)
    for _ in loader(cast(PictureDataset, Working()), endless, 1):
        pass


def boxes(folder: str) -> None:
    """Look at pictures as `care boxes` does, for ten minutes."""
    samples = sample_list(*(sample("a.png", 0, folder=Path(folder)) for _ in range(3000)))
    for _ in map_pictures(work, samples, workers=1):
        pass


@pytest.mark.parametrize("task", [batches, boxes])
def test_workers_end_with_a_process_that_is_killed(tmp_path, task):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8), np.uint8))
    code = f"from {__name__} import {task.__name__} as task; task({str(tmp_path)!r})"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as parent:
        assert parent.stdout
        try:
            assert parent.stdout.readline() == b"working\n"
            parent.kill()
            parent.communicate(timeout=PATIENCE)  # until all who could write to it have ended
        finally:
            with suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
