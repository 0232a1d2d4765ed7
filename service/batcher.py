"""Micro-batches: pictures of concurrent requests share one run of the model.

On a GPU a run of sixteen costs little more than a run of one. On a CPU it gains nothing, so there
nobody waits for anybody (CARE_BATCH=1).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from models.classifier import Outputs

Run = Callable[[np.ndarray], Outputs]


class Batcher:
    """Runs a model on what several threads ask for at about the same time.

    Each gets its own result. If a run fails, its pictures are run one by one, so a bad one fails
    alone.

    Args:
        run: Model inputs (N, S, S, 3) → outputs.
        most: Pictures per run at most.
        wait_ms: How long the first picture waits for others, in milliseconds.
        note: Told the size of each run.
    """

    def __init__(
        self,
        run: Run,
        *,
        most: int,
        wait_ms: float,
        note: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._run = run
        self._most = most
        self._wait = wait_ms / 1000
        self._note = note
        self._asked: deque[tuple[np.ndarray, Future[Outputs]]] = deque()
        self._changed = threading.Condition()
        if most > 1:
            threading.Thread(target=self._serve, daemon=True, name="batcher").start()

    def __call__(self, square: np.ndarray) -> Outputs:
        """Run the model on one picture.

        Args:
            square: One model input, uint8 (S, S, 3).

        Returns:
            The outputs for a batch of this one.
        """
        if self._most == 1:
            self._note(1)
            return self._run(square[None])
        future: Future[Outputs] = Future()
        with self._changed:
            self._asked.append((square, future))
            self._changed.notify()
        return future.result()

    def _serve(self) -> None:
        while True:
            batch = self._collect()
            squares = [square for square, _ in batch]
            for (_, future), result in zip(batch, self._results(squares), strict=True):
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _collect(self) -> list[tuple[np.ndarray, Future[Outputs]]]:
        with self._changed:
            self._changed.wait_for(lambda: self._asked)
            deadline = time.monotonic() + self._wait
            self._changed.wait_for(
                lambda: len(self._asked) >= self._most, deadline - time.monotonic()
            )
            return [self._asked.popleft() for _ in range(min(self._most, len(self._asked)))]

    def _results(self, squares: Sequence[np.ndarray]) -> list[Outputs | Exception]:
        """One result each. Foreign errors are whatever ONNX Runtime raises."""
        self._note(len(squares))
        try:
            outputs = self._run(np.stack(squares))
            return [
                Outputs(*(output[n : n + 1] for output in outputs)) for n in range(len(squares))
            ]
        except Exception as error:
            if len(squares) == 1:
                return [error]
            return [self._results([square])[0] for square in squares]
