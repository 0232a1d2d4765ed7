"""Files that are complete or not there, whoever is stopped while writing them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """A name beside a file to write under; what is there takes its place at the end, or goes.

    The name is another one each time: several processes can write the same file at once, and the
    last of them stays. It ends in `.part`: what a killed process leaves is taken for nothing else.
    Of several files in one `with`, the last named is put in its place first.
    """
    part = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
    try:
        with named(path):
            yield part
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Let an error of the system that names no file, such as of a full disk, name this one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
