"""What a table comes to: counters, histograms and short lists, however many rows it has."""

import heapq
from collections import Counter
from dataclasses import dataclass, field

from models.card import ModelCard
from service.batch.files import File
from service.batch.job import Row

MILLION = 1_000_000

BINS = 20
"""Bars of a histogram, of equal width from 0 to 1; 1 itself counts to the last."""

HIGHEST, SLOWEST, EXAMPLES = 5, 10, 5
"""How many rows are named: of each class, of all, and for a reason."""

REASONS = 500
"""How many reasons are counted apart for an error code; their words may hold any number."""


@dataclass(slots=True)
class Counts:
    """How many rows there are.

    Attributes:
        status: By what became of their files.
        error_code: By why, or by what is to be said of them.
    """

    status: Counter[str] = field(default_factory=Counter)
    error_code: Counter[str] = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        """Count a row."""
        self.status[row["status"]] += 1
        if row.get("error_code"):
            self.error_code[row["error_code"]] += 1

    def entries(self) -> dict[str, dict[str, int]]:
        """All of them as JSON has it."""
        return {
            "status": dict(sorted(self.status.items())),
            "error_code": dict(sorted(self.error_code.items())),
        }

    def summary(self) -> str:
        """All of them in a line."""
        forced, skipped = self.error_code["forced"], self.status["skipped"]
        files, errors = self.status.total(), self.status["error"]
        return (
            f"{files} file{'s'[: files != 1]}: {self.status['ok']} scored"
            + (f", {forced} of them by force" if forced else "")
            + (f", {skipped} skipped" if skipped else "")
            + f", {errors} error{'s'[: errors != 1]}"
        )


@dataclass(slots=True)
class Ranked:
    """A row of a ranking, and its file.

    Attributes:
        number: Its number in the table, counted from 1.
        file: The file.
        row: What the table says of it.
        copies: How many later rows have the same content.
    """

    number: int
    file: File
    row: Row
    copies: int = 0


class Ranking:
    """The few highest of many, the earlier one of two that are level.

    Args:
        most: How many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[float, int, Ranked]] = []
        self._contents: dict[str, Ranked] = {}

    def offer(self, score: float, number: int, file: File, row: Row) -> None:
        """Take a row in if it is high enough; of rows with the same content only the first."""
        full = len(self._heap) == self._most
        if full and score < self._heap[0][0]:
            return
        content = row.get("sha256") or ""
        if known := self._contents.get(content):
            known.copies += 1
            return
        if full and score == self._heap[0][0]:
            return
        ranked = Ranked(number, file, row)
        if full:
            _, _, gone = heapq.heapreplace(self._heap, (score, -number, ranked))
            self._contents.pop(gone.row.get("sha256") or "", None)
        else:
            heapq.heappush(self._heap, (score, -number, ranked))
        if content:
            self._contents[content] = ranked

    def rows(self) -> list[Ranked]:
        """Those there are, the highest first."""
        return [ranked for _, _, ranked in sorted(self._heap, reverse=True)]


@dataclass(slots=True)
class Reason:
    """What a row says in words.

    Attributes:
        count: How many do.
        rows: Numbers and files of the first of them.
    """

    count: int = 0
    rows: list[tuple[int, str]] = field(default_factory=list)


class LabelStatistics:
    """Scores of one label.

    Args:
        operating_point: Probability from which on it counts as found.

    Attributes:
        top: How often it is the most probable.
        found: How often its probability reaches its operating point.
        bins: How often it lies in each of `BINS`.
        highest: Where it is highest.
    """

    def __init__(self, operating_point: float) -> None:
        self.operating_point = operating_point
        self.top = 0
        self.found = 0
        self.bins = [0] * BINS
        self.highest = Ranking(HIGHEST)


class Statistics:
    """What the summary says, gathered row by row.

    Attributes:
        labels: Scores, by label in the card's order.
        unlike: Rows whose picture is unlike those the model was trained on.
        judged: Rows of which that is known at all.
        reasons: What rows say in words, by error code; `None` stands for all after `REASONS`.
        slowest: Rows that took longest.
        seconds: What all rows took together, where that is known.
        timed: How many rows that is.
    """

    def __init__(self, card: ModelCard) -> None:
        self._card = card
        self.labels = {one: LabelStatistics(card.operating_points[one]) for one in card.labels}
        self.unlike = 0
        self.judged = 0
        self.reasons: dict[str, dict[str | None, Reason]] = {}
        self.slowest = Ranking(SLOWEST)
        self.seconds = 0.0
        self.timed = 0

    def add(self, number: int, file: File, row: Row) -> None:
        """Take a row of the table into account."""
        if code := row.get("error_code"):
            self._give_reason(code, row.get("error") or "", number, row["file"])
        if (took := row.get("duration_ms")) is not None:
            self.seconds += took / 1000
            self.timed += 1
            self.slowest.offer(took, number, file, row)
        if row["status"] != "ok":
            return
        if (like := row.get("in_distribution")) is not None:
            self.judged += 1
            self.unlike += not like
        self.labels[row["label"]].top += 1
        for name, label in self.labels.items():
            score = row[f"p_{name}"]
            label.found += self._card.found(name, score)
            # in millionths, which is what the table has: no rounding moves a score to a neighbour
            label.bins[min(round(score * MILLION) * BINS // MILLION, BINS - 1)] += 1
            label.highest.offer(score, number, file, row)

    def _give_reason(self, code: str, words: str, number: int, name: str) -> None:
        reasons = self.reasons.setdefault(code, {})
        reason = reasons.setdefault(
            words if words in reasons or len(reasons) < REASONS else None, Reason()
        )
        reason.count += 1
        if len(reason.rows) < EXAMPLES:
            reason.rows.append((number, name))
