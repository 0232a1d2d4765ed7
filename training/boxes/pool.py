"""One function over all pictures, in several processes, results in the pictures' order."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from imaging.errors import ImagingError
from imaging.reading import read_image
from training.data.samples import Sample, SampleList
from training.errors import DataError

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
        workers: Processes; 0 for this one, None for one per core.
        doing: Word for the progress bar.

    Yields:
        What the function returned, in the order of the pictures, whatever the number of workers.

    Raises:
        DataError: A picture cannot be read, or its decoder crashes.
    """
    workers = (os.cpu_count() or 1) if workers is None else workers
    progress = tqdm(
        total=len(samples.samples), desc=doing, unit="picture", leave=False, disable=None
    )
    with progress:
        if workers == 0:
            for item in samples.samples:
                yield _call(function, item)
                progress.update()
            return
        # spawned, not forked: a fork of a process that has threads may hang
        context = get_context("spawn")
        with ProcessPoolExecutor(
            workers, context, initializer=cv2.setNumThreads, initargs=(1,)
        ) as pool:
            results = pool.map(partial(_call, function), samples.samples, chunksize=4)
            try:
                for result in results:
                    yield result
                    progress.update()
            except BrokenProcessPool as error:
                name = samples.samples[progress.n].name
                raise DataError(
                    f"a decoder crashed on {name} or on one of the pictures after it"
                ) from error
            finally:  # whoever stops early does not wait for pictures nobody wants
                pool.shutdown(cancel_futures=True)


def _call(function: Callable[[Sample, np.ndarray], Result], item: Sample) -> Result:
    try:
        pixels = read_image(item.path).pixels
    except ImagingError as error:
        raise DataError(f"{item.name}: {error}") from error
    return function(item, pixels)
