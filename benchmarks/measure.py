"""Timing alternatives against each other in one run, and saying what came out.

A benchmark prints what it finds: text aligned for a terminal, Markdown tables of how something
grows, one table of `Ratio`s, and last a line `ratio: ` for programs. `benchmarks.report` makes a
page of the tables.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


def interleaved(
    alternatives: Mapping[str, Callable[[], object]], *, rounds: int = 15
) -> dict[str, float]:
    """Time alternatives in turn, so that a slow moment of the computer hits all of them.

    Returns:
        Median milliseconds per call.
    """
    times = timed_rounds(alternatives, rounds=rounds)
    return {name: statistics.median(taken) for name, taken in times.items()}


def timed_rounds(
    alternatives: Mapping[str, Callable[[], object]], *, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds per call in every round. A first round, which warms up, is left out.

    Each round begins with another alternative: none always follows the one that leaves most behind.
    """
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    names = list(alternatives)
    for _ in range(rounds + 1):
        names.append(names.pop(0))
        for name in names:
            start = time.perf_counter()
            alternatives[name]()
            times[name].append((time.perf_counter() - start) * 1000)
    return {name: taken[1:] for name, taken in times.items()}


def ratio(times: Mapping[str, list[float]], one: str, other: str) -> float:
    """Median over the rounds of one alternative's time by another's in the same round."""
    return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))


def show(title: str, medians: Mapping[str, float]) -> None:
    """Print medians as a table, the fastest first, with how many times it is faster."""
    print(title)
    fastest = min(medians.values())
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        print(f"  {name:<34}{median:>9.2f} ms{median / fastest:>8.1f} x")


@dataclass(frozen=True, slots=True)
class Ratio:
    """One thing against another, both measured in one run.

    Attributes:
        what: What is ours, such as "film to input".
        against: The alternative, such as "pydicom + NumPy".
        times: How many times.
        as_what: Of what: "as fast" as the alternative, or "the cost" of it.
        at_least: The target, if there is one.
        at_most: Likewise.
    """

    what: str
    against: str
    times: float
    as_what: str
    at_least: float | None = field(default=None, kw_only=True)
    at_most: float | None = field(default=None, kw_only=True)

    @property
    def measured(self) -> str:
        """Such as "6.12 times as fast"; near 1 the third digit decides."""
        digits = 3 if self.times < 1.5 else 2 if self.times < 10 else 1
        return f"{self.times:.{digits}f} times {self.as_what}"

    @property
    def target(self) -> str:
        """Such as "at least 5: met"."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}: {_verdict(self.times >= self.at_least)}"
        if self.at_most is not None:
            return f"at most {self.at_most:g}: {_verdict(self.times <= self.at_most)}"
        return NO_TARGET


RATIOS = ("what", "against", "measured", "target")
NO_TARGET = "none"


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, words: int = 1) -> str:
    """A Markdown table. All columns but the first, or as many as have words, are numbers."""
    return "\n".join(
        [
            f"| {' | '.join(head)} |",
            "|---" * words + "|--:" * (len(head) - words) + "|",
            *(f"| {' | '.join(map(str, row))} |" for row in rows),
        ]
    )


def ratio_table(ratios: Iterable[Ratio]) -> str:
    """Ratios as the table that `benchmarks.report` knows."""
    rows = ((one.what, one.against, one.measured, one.target) for one in ratios)
    return table(RATIOS, rows, words=len(RATIOS))


def growth(unit: str, medians: Mapping[Any, Mapping[str, float]], ours: str) -> str:
    """A table of how alternatives grow with a size.

    Args:
        unit: What the sizes are, such as "classes".
        medians: Milliseconds of each alternative, by its name, for each size.
        ours: Name of the one that the others are compared with.
    """
    names = list(next(iter(medians.values())))
    others = [name for name in names if name != ours]
    rows = [
        [
            size,
            *(f"{of[name]:.1f}" for name in names),
            *(f"{of[one] / of[ours]:.1f}" for one in others),
        ]
        for size, of in medians.items()
    ]
    head = [unit, *(f"{name}, ms" for name in names), *(f"{one} / {ours}" for one in others)]
    return table(head, rows)
