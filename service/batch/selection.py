"""--include and --exclude: which files are scored at all, by what they say of themselves."""

from collections.abc import Iterable, Mapping

from imaging import terms
from imaging.image import Facts
from service.batch.errors import BatchError

WHERE = ("modality", "view", "sop_class")
"""Attributes of `Facts` that can be asked for."""

Wanted = Mapping[str, tuple[str, ...]]


def parse(option: str, wishes: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read KEY=VALUE[,VALUE] wishes; values of a key that is there twice count together.

    Raises:
        BatchError: One of them is no such thing.
    """
    found: dict[str, tuple[str, ...]] = {}
    for wish in wishes:
        key, _, values = wish.partition("=")
        wanted = tuple(value.strip().upper() for value in values.split(",") if value.strip())
        if key not in WHERE or not wanted:
            raise BatchError(f"{option} {wish}: expected {' or '.join(WHERE)}, =, and values")
        found[key] = tuple(dict.fromkeys(found.get(key, ()) + wanted))
    return found


def excluded(facts: Facts, include: Wanted, exclude: Wanted) -> str | None:
    """Why a file is not to be scored; None if it is.

    All keys of `include` must agree. A file that is silent agrees with nothing.
    """
    for key, values in include.items():
        if (found := getattr(facts, key)) not in values:
            said = terms.told(found) or "not stated"
            return f"{_name(key)} is {said}, included: {', '.join(values)}"
    for key, values in exclude.items():
        if (found := getattr(facts, key)) in values:
            return f"{_name(key)} is {terms.told(found)}, excluded"
    return None


def _name(key: str) -> str:
    return {"sop_class": "SOP class"}.get(key, key)
