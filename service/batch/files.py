"""One file of many: what it is called, where it lies, and its bytes."""

import functools
import os
import stat
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imaging.errors import (
    ImageTooLarge,
    ImagingError,
    InaccessibleFile,
    UnreadableImage,
    UnsupportedImage,
)
from imaging.reading import cannot_open, check_size, read_file
from service.batch.places import Remote, is_remote

BOMB_BYTES = 100_000_000
BOMB_RATIO = 100
"""A member of a ZIP that is larger than the one and packed more than the other is no picture."""

ENCRYPTED = 0x1
"""Bit of a member's flags."""

FINE_TICK, COARSE_TICK = 20_000_000, 2_000_000_000
"""Nanoseconds within which two changes of a file may leave the same times; FAT counts in two
seconds."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to score. Travels to workers.

    Attributes:
        name: What the column `file` says; no two files of a run share it.
        path: Where it can be opened; the archive's path for a member of a ZIP.
        member: Its name within the archive, or "".
        known: Digest of what it held when it was scored, if that row is at hand; else "".
    """

    name: str
    path: str
    member: str = ""
    known: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that a source has.

    Attributes:
        key: Sorts the files of one source as they stand in the table.
        file: Where it is.
        identity: What changes when it does; "" if that cannot be told.
        error: Why it cannot be read, where that is known already.
    """

    key: bytes
    file: File
    identity: str = ""
    error: ImagingError | None = None


def read(file: File) -> bytes:
    """The bytes of a file, read once.

    Raises:
        ImagingError: It cannot be read, or is too large.
    """
    remote = Remote(file.path) if is_remote(file.path) else None
    if not file.member and not remote:
        return read_file(Path(file.path))
    try:
        if remote and not file.member:
            return remote.read_bytes(check_size)
        now = object_identity(remote.info()) if remote else identity(Path(file.path).stat())
        archive = _archive(file.path, now)
        return _member(archive, archive.getinfo(file.member))
    except OSError as error:
        raise cannot_open(error) from error
    except KeyError as error:
        raise InaccessibleFile("no longer in its ZIP archive") from error
    except NotImplementedError as error:
        raise UnsupportedImage("packed in a way that is not read") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise UnreadableImage("a damaged member of a ZIP archive") from error


def identity(status: os.stat_result) -> str:
    """What changes when a file does. "" if it was touched so lately that it might again, unseen."""
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    tick = COARSE_TICK if changed % 10_000_000 == 0 else FINE_TICK
    if abs(time.time_ns() - changed) < tick:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"


def object_identity(info: Any) -> str:
    """The same of an object, whose time is told in seconds.

    Args:
        info: PyArrow's `FileInfo`.
    """
    changed = info.mtime_ns or 0
    if not changed or abs(time.time_ns() - changed) < COARSE_TICK:
        return ""
    return f"{info.size}-{changed}"


def _archive(path: str, identity: str) -> zipfile.ZipFile:
    """An archive; opened anew for each member as long as it might change unseen."""
    return _kept_archive(path, identity) if identity else _opened_archive(path)


@functools.lru_cache(maxsize=1)
def _kept_archive(path: str, _identity: str) -> zipfile.ZipFile:
    return _opened_archive(path)


def _opened_archive(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(Remote(path).open() if is_remote(path) else path)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & ENCRYPTED:
        raise UnsupportedImage("encrypted in its ZIP archive")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise UnsupportedImage("a link in a ZIP archive, expected a file")
    check_size(info.file_size)
    if info.file_size > BOMB_BYTES and info.file_size > BOMB_RATIO * info.compress_size:
        raise ImageTooLarge(
            f"unpacks to {info.file_size >> 20} MB, over {BOMB_RATIO} times what it is packed in"
        )
    with archive.open(info) as stream:
        return stream.read()
