"""Timing alternatives against each other in one run."""

import statistics
import time
from collections.abc import Callable, Mapping


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
