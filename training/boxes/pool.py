"""One function over all pictures, in several processes, results in the pictures' order."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from imaging.cores import available_cores
from training.data.pictures import read_sample
from training.data.samples import Sample, SampleList
from training.errors import DataError, unreadable
from training.workers import end_with_parent

Result = TypeVar("Result")


def map_pictures(
    function: Callable[[Sample, np.ndarray], Result],
    samples: SampleList,
    *,
    workers: int | None = None,
    doing: str = "reading",
) -> Iterator[Result]:
    """Call a function with each sample and its pixels, uint8 (H, W[, 3]).

    Args:
        function: Can be pickled, as can what it returns.
        samples: The pictures.
        workers: Processes; 0 for this one, None for one per core that may be used.
        doing: Word for the progress bar.

    Yields:
        What the function returned, in the order of the pictures, whatever the number of workers.

    Raises:
        DataError: Pictures cannot be read, which it names once all others are done; or a decoder
            crashes.
    """
    workers = available_cores() if workers is None else workers
    progress = tqdm(
        total=len(samples.samples), desc=doing, unit="picture", leave=False, disable=None
    )
    problems = []
    with progress:
        for result in _results(partial(_call, function), samples, workers):
            progress.update()
            if isinstance(result, _Unread):
                problems.append(result.why)
            else:
                yield result
    if problems:
        raise unreadable(problems)


class _Unread(NamedTuple):
    """In place of a result: name of a picture that cannot be read, and the reason."""

    why: str


def _results(
    call: Callable[[Sample], Result | _Unread], samples: SampleList, workers: int
) -> Iterator[Result | _Unread]:
    if workers == 0:
        yield from map(call, samples.samples)
        return
    # spawned, not forked: a fork of a process that has threads may hang
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker) as pool:
        results = pool.map(call, samples.samples, chunksize=4)
        done = 0
        try:
            for result in results:
                done += 1
                yield result
        except BrokenProcessPool as error:
            raise DataError(
                f"a decoder crashed on {samples.samples[done].name} or on one of the pictures "
                "after it"
            ) from error
        finally:  # whoever stops early does not wait for pictures nobody wants
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    end_with_parent()
    cv2.setNumThreads(1)


def _call(function: Callable[[Sample, np.ndarray], Result], item: Sample) -> Result | _Unread:
    try:
        pixels = read_sample(item).pixels
    except DataError as error:
        return _Unread(str(error))
    return function(item, pixels)
