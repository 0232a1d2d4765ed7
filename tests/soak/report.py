"""What a soak found, as Markdown."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import quantiles

from benchmarks.measure import table
from tests.soak.clients import Tally
from tests.soak.watch import ALLOWED, Held, growth

FOUND_SHOWN = 20


@dataclass(frozen=True)
class Run:
    """One number of clients.

    Attributes:
        seconds: How long it took.
        before: What the server held before it.
        samples: And while it was at work.
        after: And when it was done.
        problems: What must not be.
    """

    clients: int
    tally: Tally
    seconds: float
    before: Held
    samples: list[Held]
    after: Held
    problems: list[str]


def written(runs: Sequence[Run], command: str) -> str:
    """The report."""
    problems = [f"{run.clients} clients: {one}" for run in runs for one in run.problems]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("bentoml", "onnxruntime", "numpy"))
    return "\n".join(
        [
            "# Soak",
            "",
            f"`{command}` on {len(os.sched_getaffinity(0))} cores, {platform.system()}, "
            f"Python {platform.python_version()}, {libraries}. Clients and server share the cores, "
            "maybe with other work: `benchmarks.serving` says what a request costs.",
            "",
            "Every answer is compared with the one worked out before: probabilities to six "
            "decimals, pictures byte by byte, errors by status and code.",
            "",
            *(f"- **{one}**" for one in problems[:FOUND_SHOWN]),
            *([f"- and {len(problems) - FOUND_SHOWN} more"] if problems[FOUND_SHOWN:] else []),
            *([] if problems else ["No answer was wrong, and nothing grew."]),
            "",
            *_rates(runs),
            "",
            *_held(runs),
            "",
            *_latencies(runs),
            "",
            *_outcomes(runs),
            "",
        ]
    )


def _rates(runs: Sequence[Run]) -> list[str]:
    head = ("clients", "requests", "seconds", "requests a second", "told to wait", "wrong")
    rows = [
        (
            run.clients,
            run.tally.asked,
            f"{run.seconds:.0f}",
            f"{run.tally.asked / run.seconds:.1f}",
            run.tally.retries,
            len(run.tally.wrong),
        )
        for run in runs
    ]
    return [table(head, rows)]


def _held(runs: Sequence[Run]) -> list[str]:
    lines = [
        "## What the server held",
        "",
        "All of its processes together. Medians of the first and the last fifth of each run, after "
        "warming up. Memory in megabytes, shared pages counted once (pss) or for each (rss); "
        "files are open ones with sockets and pipes, shared are mappings of /dev/shm, left are "
        "files in its temporary folder and BentoML's home.",
        "",
    ]
    for run in runs:
        rows = []
        for name, (first, last) in growth(run.samples).items():
            most = max(getattr(one, name) for one in run.samples)
            ends = getattr(run.before, name), first, last, most, getattr(run.after, name)
            rows.append((name, *(f"{value:.0f}" for value in ends), f"+{ALLOWED[name](first):.0f}"))
        head = (f"{run.clients} clients", "before", "first", "last", "most", "after", "allowed")
        lines += [table(head, rows), ""]
    return lines[:-1]


def _latencies(runs: Sequence[Run]) -> list[str]:
    rows = []
    for run in runs:
        for call, seconds in sorted(run.tally.seconds.items()):
            if ":" in call or len(seconds) < 2:
                continue
            cuts = quantiles(seconds, n=100, method="inclusive")
            times = (cuts[49], cuts[89], cuts[98], max(seconds))
            rows.append((f"`{call}`", run.clients, *(f"{1000 * one:.0f}" for one in times)))
    head = ("milliseconds", "clients", "median", "90 %", "99 %", "longest")
    return ["## How long an answer took", "", table(head, rows)]


def _outcomes(runs: Sequence[Run]) -> list[str]:
    seen = sorted({outcome for run in runs for outcome in run.tally.outcomes})
    rows = [
        (
            f"`{call.partition(':')[0]}`",
            status or "-",
            f"`{code}`" if status and code else code or "-",
            *(run.tally.outcomes[call, status, code] for run in runs),
        )
        for call, status, code in seen
    ]
    head = ("call", "status", "code", *(f"{run.clients} clients" for run in runs))
    return ["## What came back", "", table(head, rows)]
