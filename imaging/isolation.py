"""Decoding in a process of its own, where a crash or a hang costs one picture and not the program.

Codecs of compressed DICOM are native code that was not written for hostile files, and so is what
reads embedded color profiles. A `DecoderPool` gives such files to workers, `python -m
imaging.isolation`, over a pipe: a line of JSON and raw bytes each way, so that nothing a decoder
was talked into is ever unpickled here.
"""

import json
import os
import queue
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from imaging import errors
from imaging.errors import ImagingError, UnreadableImage
from imaging.expendable import SPARE_SECONDS, expect_the_worst
from imaging.image import ImageFile, Voi, Window
from imaging.reading import open_image, use_one_core

ROOT = Path(__file__).resolve().parent.parent

START_SECONDS = 60
"""How long a worker may take to start; no picture is to blame for that."""


class DecoderPool:
    """Workers that decode, started when first needed. Safe to use from several threads.

    Args:
        workers: Most processes at once; who comes later waits.
        timeout: Seconds that one picture may take.
        max_megapixels: Most pixels that one frame may have, in millions.
    """

    def __init__(self, workers: int, *, timeout: float, max_megapixels: float = 100) -> None:
        self._timeout = timeout
        self._max_megapixels = max_megapixels
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(None)

    def guard(self, file: ImageFile, data: bytes) -> ImageFile:
        """The same file, but decoded by a worker if its kind is fragile.

        Args:
            file: A file whose header was read.
            data: Its bytes.
        """
        if not file.fragile:
            return file
        return replace(file, decode=partial(self._decode, data))

    def close(self) -> None:
        """End the workers that have nothing to do."""
        while not self._idle.empty():
            if worker := self._idle.get():
                worker.end()

    def _decode(
        self, data: bytes, frame: int, window: Window | int | None
    ) -> tuple[np.ndarray, Voi | None]:
        """Display-ready pixels of one frame, counted from 0, through a window as in `read`.

        Raises:
            UnreadableImage: It took too long, or the decoder crashed.
            ImagingError: Whatever the worker found.
        """
        job = {
            "frame": frame,
            "window": astuple(window) if isinstance(window, Window) else window,
            "max_megapixels": self._max_megapixels,
            "seconds": self._timeout,
        }
        with self._worker() as worker:
            return worker.decode(job, data)

    @contextmanager
    def _worker(self) -> Iterator["_Worker"]:
        worker = self._idle.get()
        try:
            if worker is None or not worker.alive:
                worker = None  # and that it stays, if none can be started
                worker = _Worker()
            yield worker
        finally:
            self._idle.put(worker)


class _Worker:
    """One process, seen from the program that asks it."""

    def __init__(self) -> None:
        # Decoders complain on stderr, in words of their own choice; no log wants them.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "imaging.isolation"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._to = self._process.stdin.fileno()
        self._from = self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        try:
            self._receive_line(time.monotonic() + START_SECONDS)  # it says when it is ready
        except BaseException:
            self.end()
            raise

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def decode(self, job: dict[str, Any], data: bytes) -> tuple[np.ndarray, Voi | None]:
        deadline = time.monotonic() + job["seconds"]
        try:
            self._send(_line(job | {"bytes": len(data)}), deadline)
            self._send(data, deadline)
            answer = json.loads(self._receive_line(deadline))
            if "error" not in answer:
                pixels = np.empty(answer["shape"], np.uint8)
                self._receive(pixels.data.cast("B"), deadline)
                return pixels, _voi(answer["voi"])
        except TimeoutError:
            self.end()
            raise UnreadableImage(
                f"took too long: not decoded within {job['seconds']:g} seconds"
            ) from None
        except (OSError, EOFError):
            self.end()
            raise UnreadableImage("the decoder crashed on this file") from None
        except BaseException:
            self.end()  # what is left in the pipe belongs to nobody
            raise
        raise _error(answer)

    def _send(self, data: bytes, deadline: float) -> None:
        left = memoryview(data)
        while left:
            _wait(deadline, write=self._to)
            left = left[os.write(self._to, left) :]

    def _receive(self, into: memoryview, deadline: float) -> None:
        while into:
            _wait(deadline, read=self._from)
            count = os.readv(self._from, [into])
            if not count:
                raise EOFError
            into = into[count:]

    def _receive_line(self, deadline: float) -> bytes:
        line = bytearray()
        byte = bytearray(1)
        while not line.endswith(b"\n"):
            self._receive(memoryview(byte), deadline)
            line += byte
        return bytes(line)


def _wait(deadline: float, *, read: int | None = None, write: int | None = None) -> None:
    """Wait until a pipe can be read or written.

    Raises:
        TimeoutError: Not before the deadline.
    """
    poll = select.poll()  # unlike select(), it knows no largest file descriptor
    if read is not None:
        poll.register(read, select.POLLIN)
    if write is not None:
        poll.register(write, select.POLLOUT)
    if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _voi(answer: dict[str, Any] | None) -> Voi | None:
    return Voi(**answer | {"window": Window(**answer["window"])}) if answer else None


def _error(answer: dict[str, Any]) -> Exception:
    kind = getattr(errors, answer["error"], None)
    if isinstance(kind, type) and issubclass(kind, ImagingError):
        return kind(answer["problem"])
    return RuntimeError(f"a decoder's process failed with {answer['error']}")


def main() -> None:
    """Be a worker: decode what comes on stdin until it ends."""
    expect_the_worst()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to a whole service, it costs an answer
    use_one_core()
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what decoders print is no answer
    sink.write(_line({"ready": True}))
    sink.flush()
    while line := source.readline():
        job = json.loads(line)
        signal.alarm(int(job["seconds"]) + SPARE_SECONDS)
        _answer(job, source.read(job["bytes"]), sink)
        signal.alarm(0)


def _answer(job: dict[str, Any], data: bytes, sink: BinaryIO) -> None:
    try:
        file = open_image(data, max_megapixels=job["max_megapixels"])
        window = Window(*job["window"]) if isinstance(job["window"], list) else job["window"]
        decoded, voi = file.decode(job["frame"], window)
        pixels = np.ascontiguousarray(decoded)
    except ImagingError as error:
        sink.write(_line({"error": type(error).__name__, "problem": error.problem}))
    except Exception as error:
        # Our own mistake; its message may quote the file, so only its kind is told.
        sink.write(_line({"error": type(error).__name__, "problem": ""}))
    else:
        sink.write(_line({"shape": pixels.shape, "voi": voi and asdict(voi)}))
        sink.write(pixels.data.cast("B"))
    sink.flush()


if __name__ == "__main__":
    main()
