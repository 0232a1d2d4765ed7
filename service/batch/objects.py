"""Objects below a prefix, or that match a pattern, listed a folder at a time."""

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from service.batch.places import Remote


@dataclass(frozen=True, slots=True)
class Unlisted:
    """What stands for objects that cannot be listed.

    Attributes:
        why: In words.
    """

    why: str


def below(url: str) -> Iterator[tuple[str, Any]]:
    """Every object below a prefix, by its URL, with PyArrow's `FileInfo` of it or `Unlisted`.

    Raises:
        OSError: Nothing there can be listed.
    """
    scheme = url.partition("://")[0]
    entries = Remote(url).iterdir()
    for info in entries:
        path = f"{scheme}://{info.path}".rstrip("/")
        if info.is_file:
            yield path, info
        elif path == url:
            yield f"{url}//", Unlisted("objects with nothing between two slashes are not read")
        else:
            try:
                yield from below(path)
            except OSError as error:
                yield f"{path}/", Unlisted(f"cannot be listed: {error.strerror}")


def matching(pattern: str) -> Iterator[tuple[str, Any]]:
    """Every object that a pattern matches, or that is below what it matches.

    Looks at all that is below the part of the pattern that is none.

    Raises:
        OSError: Nothing there can be listed.
    """
    fixed = pattern
    while glob.has_magic(fixed):
        fixed = fixed.rpartition("/")[0]
    if "://" not in fixed or fixed == pattern:
        return
    wanted = re.compile(f"{_regular(pattern)}(/.*)?", re.DOTALL)
    for url, info in below(fixed):
        if wanted.fullmatch(url):
            yield url, info


def _regular(pattern: str) -> str:
    """A shell's pattern as a regular expression; ** stands for any folders."""
    parts = []
    for one in re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^]]*\])", pattern):
        match one:
            case "**/":
                parts.append("(.*/)?")
            case "**":
                parts.append(".*")
            case "*":
                parts.append("[^/]*")
            case "?":
                parts.append("[^/]")
            case _ if one.startswith("[") and len(one) > 2:
                parts.append("[^" + one[2:] if one[1] == "!" else one)
            case _:
                parts.append(re.escape(one))
    return "".join(parts)
