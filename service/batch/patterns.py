"""A shell's pattern, followed from folder to folder: only what it may match is looked at."""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

Names = tuple[str, ...]
"""What is left of a pattern, a name each; ** stands for any folders, "" for all a folder holds."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of all that is below a folder. False if nothing is.

    Attributes:
        ways: What is left of the pattern; ** leaves several. One at its end is ().
        hidden: Whether a wildcard stands for names that begin with a dot, too.
    """

    ways: frozenset[Names] = frozenset({()})
    hidden: bool = True

    def __bool__(self) -> bool:
        return bool(self.ways)

    @property
    def met(self) -> bool:
        """Whether the pattern matches here, and so all that is below."""
        return () in self.ways

    def below(self, name: str) -> "Wanted":
        """What is wanted of a file, or of a folder and all below it."""
        if self.met:
            return ALL
        follow = (way if way[0] == "**" else way[1:] for way in self.ways if self._is(name, way[0]))
        return Wanted(frozenset(one for way in follow for one in _ways(way)), self.hidden)

    def _is(self, name: str, wild: str) -> bool:
        seen = self.hidden or not name.startswith(".") or wild == "" or wild.startswith(".")
        return seen and fnmatchcase(name, wild or "*")


ALL = Wanted()


def split(pattern: str, *, hidden: bool) -> tuple[str, Wanted]:
    """The folder where a pattern begins, with its slash, and what is wanted below it."""
    names = pattern.split("/")
    fixed = next(number for number, name in enumerate(names) if glob.has_magic(name))
    wild = [name for name in names[fixed:-1] if name not in ("", ".")] + names[-1:]
    folder = "".join(f"{name}/" for name in names[:fixed])
    return folder, Wanted(frozenset(_ways(tuple(wild))), hidden)


def _ways(way: Names) -> Iterator[Names]:
    """A way, and those where a ** at its beginning stands for no folder."""
    yield way
    while way and way[0] == "**":
        way = way[1:]
        yield way
