"""Objects below a prefix, or that match a pattern, listed a folder at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from service.batch.patterns import ALL, Wanted, split
from service.batch.places import Remote


@dataclass(frozen=True, slots=True)
class Unlisted:
    """What stands for objects that cannot be listed.

    Attributes:
        why: In words.
    """

    why: str


def below(url: str, wanted: Wanted = ALL) -> Iterator[tuple[str, Any]]:
    """Every object below a prefix, by its URL, with PyArrow's `FileInfo` of it or `Unlisted`.

    Args:
        url: The prefix.
        wanted: Which of them.

    Raises:
        OSError: Nothing there can be listed.
    """
    scheme = url.partition("://")[0]
    entries = Remote(url).iterdir()
    for info in entries:
        path = f"{scheme}://{info.path}".rstrip("/")
        left = wanted.below(path[len(url) + 1 :])
        if info.is_file:
            if left.met:
                yield path, info
        elif left and path == url:
            yield f"{url}//", Unlisted("objects with nothing between two slashes are not read")
        elif left:
            try:
                yield from below(path, left)
            except OSError as error:
                yield f"{path}/", Unlisted(f"cannot be listed: {error.strerror}")


def matching(pattern: str) -> Iterator[tuple[str, Any]]:
    """Every object that a pattern matches, or that is below what it matches.

    Raises:
        OSError: Nothing there can be listed.
    """
    prefix, wanted = split(pattern, hidden=True)
    if not prefix.endswith("://"):
        yield from below(prefix.rstrip("/"), wanted)
