"""What C libraries write to stderr while they decode: captured here, and kept from the log.

Where the scan of a JPEG is damaged, libjpeg makes pixels up and reports success; all it does is to
write a line, the first of its complaints.
"""

import ctypes
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import TypeVar

Result = TypeVar("Result")

LOSS = re.compile(
    rb"premature end of (data segment|jpeg file)|bad (huffman|arithmetic) code"
    rb"|found marker 0x\w\w instead of rst\d",
    re.IGNORECASE,
)
"""Complaints of libjpeg that cost pixels. Bytes too many need not: some encoders leave a few."""

MOST_BYTES = 1 << 16
"""Of complaints that are looked at."""

UNBUFFERED = 2
"""As glibc's `setvbuf` knows it."""


def listen(decode: Callable[[], Result]) -> tuple[Result, str]:
    """Decode, and listen for what a decoder does not report. Safe to use from several threads.

    Args:
        decode: What calls the decoder; maybe twice.

    Returns:
        What it returned; and how pixels were lost, in libjpeg's words, "" if none were or where
        stderr cannot be captured.
    """
    return _CAPTURE.listen(decode) if _CAPTURE else (decode(), "")


class _Capture:
    """C's stderr while somebody decodes: a file without a name. Python's own is another.

    It is the process's and not a thread's. So who hears of a loss, maybe another's, decodes again
    with nobody beside.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._libc.fdopen.restype = ctypes.c_void_p
        self._stderr = ctypes.c_void_p.in_dll(self._libc, "stderr")
        self._usual = self._stderr.value
        self._start()
        os.register_at_fork(after_in_child=self._start)

    def _start(self) -> None:
        self._stderr.value = self._usual
        self._file = os.memfd_create("stderr")
        self._stream = self._libc.fdopen(self._file, b"a")
        self._libc.setvbuf(ctypes.c_void_p(self._stream), None, UNBUFFERED, 0)
        self._changed = Condition()
        self._decoding = 0
        self._alone = False

    def listen(self, decode: Callable[[], Result]) -> tuple[Result, str]:
        result, loss = self._listen(decode, alone=False)
        return self._listen(decode, alone=True) if loss else (result, "")

    def _listen(self, decode: Callable[[], Result], *, alone: bool) -> tuple[Result, str]:
        with self._open(alone=alone):
            start = os.fstat(self._file).st_size
            result = decode()
            loss = LOSS.search(os.pread(self._file, MOST_BYTES, start))
        return result, loss[0].decode() if loss else ""

    @contextmanager
    def _open(self, *, alone: bool) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._decoding += 1
            self._alone = alone  # so that nobody else begins
        try:
            if alone:
                with self._changed:
                    self._changed.wait_for(lambda: self._decoding == 1)
            self._stderr.value = self._stream
            yield
        finally:
            with self._changed:
                self._decoding -= 1
                self._alone = self._alone and not alone
                if not self._decoding:
                    self._stderr.value = self._usual
                    os.ftruncate(self._file, 0)
                self._changed.notify_all()


def _capture() -> _Capture | None:
    try:
        return _Capture()
    except (AttributeError, ValueError):  # macOS, Windows
        return None


_CAPTURE = _capture()
