"""The summary: one page that says what was scored, what stands out, and what went wrong.

It holds no script, asks nobody for anything, and names no file unless that is wished for.
"""

import base64
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from imaging.errors import ImagingError
from imaging.overlay import encode, shrink
from imaging.reading import open_image, read_image
from models.card import ModelCard
from models.distribution import UNLIKE
from service.batch.codes import CODES, Code
from service.batch.errors import BatchError
from service.batch.evidence import OVERLAY, drawn_as, explained
from service.batch.files import File, read
from service.batch.job import Job, digest
from service.batch.places import Place, place
from service.batch.scorer import Engine
from service.batch.statistics import Counts, Ranked, Reason, Statistics

PAGE = Path(__file__).parent / "page"

SUFFIXES = (".html", ".htm")

PICTURE_SIDE = 512
"""Longest side of a picture on the page, in pixels."""

SHOWN_REASONS = 20
"""How many different reasons are shown for an error code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run, as its page describes it.

    Attributes:
        sources: What was scored, as given.
        table: Name of the table.
        names: Whether files and sources are named.
        started: When it began, UTC.
        worked: How many files it scored; the rows of others were at hand.
        engine: What scored them.
    """

    sources: Sequence[str]
    table: str
    names: bool
    started: datetime
    worked: int
    engine: Engine


def check_page(path: Place) -> None:
    """Refuse a page that could not be written in the end.

    Raises:
        BatchError: Its name is no page's.
        ModuleNotFoundError: It needs a library that is not here.
    """
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise BatchError(f"{path.name}: expected a file's name that ends in {', '.join(SUFFIXES)}")
    if find_spec("jinja2") is None:
        raise ModuleNotFoundError(name="jinja2")  # now, and not when the page is to be written


def write_page(
    path: Path,
    drawn: Place,
    counts: Counts,
    statistics: Statistics,
    ran: Ran,
    job: Job,
    card: ModelCard,
) -> None:
    """Write the page of a run whose rows are all known.

    Args:
        path: Where to.
        drawn: A folder for pictures that have to be drawn for it, which all who score can reach.
        counts: Of all rows.
        statistics: Likewise.
        ran: What else is to be said.
        job: How files were scored.
        card: Card of the model.

    Raises:
        ModelError: The model cannot be used any more.
        OSError: It cannot be written.
    """
    # Here and not above: a run without a summary needs none of it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    ended = datetime.now(UTC)
    drawn.mkdir(exist_ok=True)
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= FILTERS
    style = (PAGE / "summary.css").read_text(encoding="utf-8")
    pictures = _pictures(statistics, ran.engine, job, card, drawn)
    slowest = [(one, _look(one)) for one in statistics.slowest.rows()]
    options = job.options(card)
    content = environment.get_template("summary.html").render(
        style=Markup(style),
        style_sha256=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        ran=ran,
        ended=ended,
        seconds=(ended - ran.started).total_seconds(),
        card=card,
        options=options,
        options_sha256=digest(options),
        statistics=statistics,
        counts=counts,
        total=counts.status.total(),
        scored=counts.status["ok"],
        unlike=UNLIKE,
        pictures=pictures,
        spoken=list(_spoken(counts, statistics)),
        slowest=slowest,
    )
    path.write_text(content, encoding="utf-8")


def _spoken(
    counts: Counts, statistics: Statistics
) -> Iterator[tuple[str, Code, list[tuple[str, Reason]]]]:
    """Error codes there are, errors and the most frequent first, with what their rows say."""
    there = counts.error_code
    order = ("error", "skipped", "ok")
    for code in sorted(there, key=lambda one: (order.index(CODES[one].status), -there[one], one)):
        reasons = dict(statistics.reasons[code])
        rest = reasons.pop(None, Reason())
        ranked = sorted(reasons.items(), key=lambda one: -one[1].count)
        for _, reason in ranked[SHOWN_REASONS:]:
            rest.count += reason.count
            rest.rows = rest.rows or reason.rows
        shown = [(str(words), reason) for words, reason in ranked[:SHOWN_REASONS]]
        yield code, CODES[code], shown + ([("other reasons", rest)] if rest.count else [])


def _pictures(
    statistics: Statistics, engine: Engine, job: Job, card: ModelCard, drawn: Place
) -> dict[tuple[str, str], str]:
    """Overlays of the highest scores, by digest and label, as addresses that hold the picture.

    What was drawn anyway is used; the rest is drawn now, from files that may have gone or changed
    in the meantime. Then there is none.
    """
    kept_at: dict[tuple[str, str], Place] = {}
    files: dict[str, File] = {}
    draw: dict[str, tuple[str, ...]] = {}
    again = replace(job, overlays=True, captures=False, draw=draw, kept=str(drawn))
    for label, scores in statistics.labels.items():
        for one in scores.highest.rows():
            content = one.row["sha256"]
            if job.overlays and label in explained(one.row, job, card):
                kept, how = place(job.kept), job
            else:
                kept, how = drawn, again
                files[content] = one.file
                draw[content] = (*draw.get(content, ()), label)
            kept_at[content, label] = kept / (content + drawn_as(label, OVERLAY, how))
    if files:
        for _ in engine(files.values(), again, None):
            pass
    return {key: _address(path) for key, path in kept_at.items() if path.exists()}


def _address(path: Place) -> str:
    content = encode(shrink(read_image(path.read_bytes()), PICTURE_SIDE), "webp")
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True, slots=True)
class _Known:
    """What a file is: its size in bytes, and the rest in words."""

    size: int
    words: str


def _look(ranked: Ranked) -> _Known | None:
    """Look at a file once more; None if it cannot be read or has changed. Decodes nothing."""
    try:
        data = read(ranked.file)
    except ImagingError:
        return None
    if hashlib.sha256(data).hexdigest() != ranked.row.get("sha256"):
        return None
    try:
        facts = open_image(data).facts
    except ImagingError:
        return _Known(len(data), "no picture that is read")
    frames = f", {facts.frames} frames" if facts.frames > 1 else ""
    syntax = f", {facts.syntax}" if facts.syntax else ""
    kind = "DICOM" if facts.kind == "dicom" else facts.kind.upper()
    return _Known(len(data), f"{kind}{syntax}, {facts.width} by {facts.height} pixels{frames}")


def _count(number: int) -> str:
    return f"{number:,}"


def _files(number: int) -> str:
    return f"{number:,} file{'s' if number != 1 else ''}"


def _share(part: int, whole: int) -> str:
    """A percentage that is 0 or 100 % only where it is that exactly."""
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.3g} %"


def _probability(value: float) -> str:
    """Four decimals at most, and 0 or 1 only where it is that exactly."""
    rounded = round(value, 4)
    return f"{value:.6f}" if rounded in (0, 1) and value != rounded else f"{rounded:g}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} seconds"
    return str(timedelta(seconds=round(seconds)))


def _milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value < 10_000 else f"{value / 1000:,.1f} s"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def _heights(bins: Sequence[int]) -> list[float]:
    """Heights of bars in [0, 1], on a logarithmic scale on which one file is still seen."""
    most = math.log10(1 + max(bins))
    return [math.log10(1 + count) / most for count in bins]


def _steps(bins: Sequence[int]) -> list[dict[str, Any]]:
    """Lines of a scale beside such bars, at powers of ten."""
    most = math.log10(1 + max(bins))
    powers = range(len(str(max(bins))))
    return [
        {"label": _power(power), "height": math.log10(1 + 10**power) / most} for power in powers
    ]


def _power(power: int) -> str:
    """A power of ten in at most four letters: 100, 10k, 1M."""
    thousands, rest = divmod(power, 3)
    return f"{10**rest}{('', 'k', 'M', 'G')[thousands]}"


FILTERS: dict[str, Callable[..., Any]] = {
    "count": _count,
    "files": _files,
    "share": _share,
    "probability": _probability,
    "duration": _duration,
    "milliseconds": _milliseconds,
    "size": _size,
    "heights": _heights,
    "steps": _steps,
}
