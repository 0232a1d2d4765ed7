"""Where files are: in the file system, or in object storage (`s3://bucket/key`, `gs://bucket/key`).

PyArrow does the asking. It finds credentials where each cloud's own tools do: in the environment,
in a profile, or with the machine. `AWS_ENDPOINT_URL` names another server that speaks S3.
"""

import errno
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

SCHEMES = ("s3://", "gs://")

GCS_RETRIES = timedelta(seconds=60)
"""How long a request to Google is tried again; a quarter of an hour if nobody says."""

READ_AHEAD = 1 << 20
"""Bytes asked for at once of an archive, whose reader asks for some dozens."""

REASON = re.compile(r"AWS Error (\w+)|Status\((\w+)")
"""The word in a cloud's message that says what is wrong; the rest repeats names of objects."""


def is_remote(path: str) -> bool:
    """Whether this names something in object storage."""
    return path.startswith(SCHEMES)


def place(text: str) -> "Place":
    """The place that a person named."""
    return Remote(text.rstrip("/")) if is_remote(text) else Path(text)


@dataclass(frozen=True, slots=True)
class Remote:
    """An object, or what others call a folder of them. Speaks as `pathlib.Path` does.

    Everything here raises OSError, and what can be written is there completely or not at all.

    Attributes:
        url: Its scheme, bucket and key.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "Remote":
        return Remote(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """What follows the last slash."""
        return self.url.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """What follows the last dot of the name, with it."""
        return Path(self.name).suffix

    @property
    def parent(self) -> "Remote":
        """What it is in."""
        return Remote(self.url.rpartition("/")[0])

    def with_name(self, name: str) -> "Remote":
        """What is beside it under another name."""
        return self.parent / name

    def info(self) -> Any:
        """PyArrow's `FileInfo`: what it is, how large, since when."""
        return next(infos([self.url]))

    def exists(self) -> bool:
        """Whether there is such an object, or any below it."""
        return bool(self.info().type)  # FileType.NotFound is 0

    def is_dir(self) -> bool:
        """No object is in the way of another."""
        return False

    def is_prefix(self) -> bool:
        """Whether it is no object, but there are some below it."""
        info = self.info()
        return bool(info.type) and not info.is_file

    def mkdir(self, **_: object) -> None:
        """Needs no doing: an object's name brings its folders."""

    def iterdir(self) -> Iterator[Any]:
        """PyArrow's `FileInfo` of all that is directly in it, which may be nothing."""
        from pyarrow.fs import FileSelector

        with _told(self.url):
            system, path = _at(self.url)
            yield from system.get_file_info(FileSelector(path, allow_not_found=True))

    def open(self) -> BinaryIO:
        """It as a file to read from. What reading raises then has no words for people."""
        with _told(self.url):
            system, path = _at(self.url)
            return cast(BinaryIO, io.BufferedReader(system.open_input_file(path), READ_AHEAD))

    def read_bytes(self, allow: Callable[[int], object] = lambda size: None) -> bytes:
        """All of it, if its size is allowed."""
        with _told(self.url):
            system, path = _at(self.url)
            with system.open_input_file(path) as file:
                allow(file.size())
                return file.read()

    def write_bytes(self, content: bytes) -> None:
        """Put it there, or replace it."""
        with _told(self.url):
            system, path = _at(self.url)
            # Without `with`: closing makes an object of what there is; forgetting, of nothing.
            file = system.open_output_stream(path, compression=None)
            file.write(content)
            file.close()

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove it."""
        try:
            with _told(self.url):
                system, path = _at(self.url)
                system.delete_file(path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_all(self) -> None:
        """Remove all that is below it."""
        with _told(self.url):
            system, path = _at(self.url)
            system.delete_dir_contents(path, missing_dir_ok=True)


Place = Path | Remote


def infos(urls: Sequence[str]) -> Iterator[Any]:
    """PyArrow's `FileInfo` of each, asked for side by side; of type NotFound where there is none.

    Raises:
        OSError: One of them may not be asked for.
    """
    for first in range(0, len(urls), 1000):
        some = urls[first : first + 1000]
        by_system: dict[int, tuple[Any, list[str]]] = {}
        with _told(some[0]):
            for url in some:
                system, path = _at(url)
                by_system.setdefault(id(system), (system, []))[1].append(path)
            answers = {
                (number, path): info
                for number, (system, paths) in by_system.items()
                for path, info in zip(paths, system.get_file_info(paths), strict=True)
            }
            for url in some:
                system, path = _at(url)
                yield answers[id(system), path]


def copy(source: Place, target: Place) -> None:
    """Let a file appear at another place as well, completely or not at all.

    Raises:
        OSError: It cannot be read, or not written there.
    """
    from pyarrow.fs import copy_files

    with _told(str(target)):
        (here, path), (there, aim) = _at(str(source)), _at(str(target))
        if here is there:
            here.copy_file(path, aim)
        elif isinstance(target, Path):
            temporary = target.with_name(f".{target.name}.unfinished")
            copy_files(path, str(temporary), source_filesystem=here, destination_filesystem=there)
            temporary.replace(target)
        else:
            copy_files(path, aim, source_filesystem=here, destination_filesystem=there)


def _at(where: str) -> tuple[Any, str]:
    """The file system of PyArrow that has something, and what it is called there."""
    scheme, found, path = where.partition("://")
    if not found:
        return _system("", ""), where
    bucket = path.partition("/")[0]
    if not bucket:
        raise OSError(errno.EINVAL, "no bucket is named", where)
    return _system(scheme, bucket), path


@lru_cache(maxsize=64)
def _system(scheme: str, bucket: str) -> Any:
    from pyarrow import fs

    if scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=GCS_RETRIES)
    if not scheme:
        return fs.LocalFileSystem()
    retries = fs.AwsStandardS3RetryStrategy(max_attempts=5)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        return fs.S3FileSystem(endpoint_override=endpoint, retry_strategy=retries)
    return fs.S3FileSystem(region=fs.resolve_s3_region(bucket), retry_strategy=retries)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Say in few words what a cloud says in many, which repeat what objects are called."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "no such object", url) from error
    except (OSError, ValueError) as error:  # ValueError: PyArrow of a name it does not take
        if isinstance(error, OSError) and error.filename:
            raise
        word = REASON.search(str(error))
        reason = next(filter(None, word.groups())).lower().replace("_", " ") if word else ""
        if isinstance(error, ValueError):
            reason = "a name that is not taken"
        elif error.errno:
            reason = os.strerror(error.errno)
        raise OSError(errno.EIO, reason or "not answered as expected", url) from error
