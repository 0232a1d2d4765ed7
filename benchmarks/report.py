"""Every benchmark, one after the other, and a page of what they found.

    python -m benchmarks.report [--quick] [--only NAME ...] [--folder DIR]

What a benchmark printed becomes reports/NAME.md when it has ended well, else the report there is
stays. REPORT.md is made anew after each, of the tables of all reports there are: a page may come
together over several goes.
"""

import argparse
import ast
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Self

import psutil

from benchmarks.measure import NO_TARGET, RATIOS, table
from imaging.cores import available_cores
from training.files import complete

HERE = Path(__file__).parent
BENCHMARKS = (
    "film_to_input",
    "maps",
    "gradcam",
    "explain",
    "serving",
    "clients",
    "cold_start",
    "batch",
    "cluster",
    "training",
)
"""Those of the page, in its order."""
PACKAGES = (
    *("numpy", "opencv-python", "pydicom", "highdicom", "onnxruntime", "onnxruntime-gpu"),
    *("bentoml", "fastapi", "ray", "torch", "torchvision", "grad-cam", "captum"),
)
NO_GPU = "no GPU"

INTRODUCTION = """\
# Speed

Each ratio is that of two alternatives measured in one run on one machine; times are those of that
machine. `make bench` measures all of it, `python -m benchmarks.report --only NAME` one section.
Each section's report says how it was measured, and has all that was printed. A ratio scatters by
some percent from run to run: so near to its target, it may meet it in one and miss it in the next.
Between machines it differs by more: [the targets on another one](reports/amd-epyc.md).
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark found.

    Attributes:
        name: The benchmark's module.
        about: What it measures, in a line.
        when: With which command, on which day, and how long it took.
        where: On which machine, with which versions.
        body: How it measures, and what it printed: Markdown.
    """

    name: str
    about: str
    when: str
    where: str
    body: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """One that was written by `write`."""
        _, about, when, where, body = path.read_text(encoding="utf-8").split("\n\n", 4)
        return cls(path.stem, about, when, where, body)

    def write(self, folder: Path) -> None:
        """Write `folder/NAME.md`, complete or not at all."""
        parts = (f"# {self.name}", self.about, self.when, self.where, self.body)
        with complete(folder / f"{self.name}.md") as part:
            part.write_text("\n\n".join(parts), encoding="utf-8")

    @property
    def tables(self) -> list[str]:
        """The Markdown tables."""
        grouped = groupby(self.body.splitlines(), key=lambda line: line.startswith("|"))
        return ["\n".join(lines) for is_table, lines in grouped if is_table]

    @property
    def targets(self) -> list[list[str]]:
        """The cells of each ratio that has a target."""
        return [
            cells
            for one in self.tables
            if (rows := [_cells(line) for line in one.splitlines()])[0] == list(RATIOS)
            for cells in rows[2:]
            if cells[-1] != NO_TARGET
        ]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def page(reports: Iterable[Report]) -> str:
    """The page: the targets, then each benchmark's tables, then what is missing."""
    found = {report.name: report for report in reports}
    known = [found[name] for name in BENCHMARKS if name in found]
    places = list(dict.fromkeys(report.where for report in known))
    parts = [INTRODUCTION.rstrip("\n"), *(places if len(places) == 1 else [])]
    if targets := [cells for report in known for cells in report.targets]:
        parts += ["## Targets", table(RATIOS, targets, words=len(RATIOS))]
    for report in known:
        parts += [f"## {report.name}", report.about]
        parts += [f"{report.when} [Report](reports/{report.name}.md)."]
        parts += [*([report.where] if len(places) > 1 else []), *report.tables]
    if missing := _missing(found, places):
        parts += ["## Not measured", "\n".join(f"- {line}" for line in missing)]
    return "\n\n".join(parts) + "\n"


def _missing(found: Iterable[str], places: Sequence[str]) -> list[str]:
    missing = [f"`{name}`: there is no report." for name in BENCHMARKS if name not in set(found)]
    if all(NO_GPU in where for where in places):
        missing.append("GPU: not measured here: no GPU was there.")
    return missing


def machine() -> str:
    """What it is measured on and with; neither its name nor any place on it."""
    memory = psutil.virtual_memory().total / 1e9
    versions = ", ".join(f"{name} {one}" for name in PACKAGES if (one := _version(name)))
    return (
        f"{available_cores()} cores of {_processor()}, {memory:.0f} GB of memory, {_gpu()}, "
        f"{platform.system()}. Python {platform.python_version()}, {versions}."
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor as Linux names it; elsewhere its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpu() -> str:
    """The GPU as its driver names it."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return NO_GPU
    return said.strip().replace("\n", ", ") or NO_GPU


def measure(name: str, *, quick: bool) -> Report:
    """Run one benchmark in a process of its own, showing what it prints.

    Raises:
        CalledProcessError: It did not end well.
    """
    words = [f"benchmarks.{name}", *(["--quick"] if quick else [])]
    begun, day = time.perf_counter(), datetime.now(UTC)
    printed = echoed([sys.executable, "-u", "-m", *words])
    minutes = (time.perf_counter() - begun) / 60
    docstring = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8")))
    about, _, how = (docstring or "").split("\n\n", 2)  # between them: how to call it
    quickly = " A quick run: its figures are rough." if quick else ""
    return Report(
        name,
        about,
        f"`python -m {' '.join(words)}`, {day:%Y-%m-%d}, {minutes:.1f} minutes.{quickly}",
        machine(),
        f"{how}\n\n{as_markdown(printed)}\n",
    )


def echoed(command: list[str]) -> str:
    """What a command prints, printed here as it comes.

    Raises:
        CalledProcessError: It did not end well.
    """
    lines = []
    with subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return "".join(lines)


def as_markdown(printed: str) -> str:
    """Tables as they are, and all else in fences: it is aligned for a terminal."""
    parts = []
    for is_table, lines in groupby(printed.splitlines(), key=lambda line: line.startswith("|")):
        if text := "\n".join(lines).strip("\n"):
            parts.append(text if is_table else f"```text\n{text}\n```")
    return "\n\n".join(parts)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and write reports and page.

    Returns:
        How many benchmarks did not end well.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="rough figures, in some minutes")
    parser.add_argument("--only", nargs="*", choices=BENCHMARKS, help="none: the page alone")
    parser.add_argument("--folder", type=Path, default=HERE, help="of REPORT.md and reports/")
    options = parser.parse_args(words)
    reports = options.folder / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in BENCHMARKS if options.only is None else options.only:
        print(f"\n{name}", flush=True)
        try:
            measure(name, quick=options.quick).write(reports)
        except subprocess.CalledProcessError as error:
            failed.append(name)
            print(f"{name}: exit code {error.returncode}; its report is as it was", flush=True)
        write_page(options.folder)
    write_page(options.folder)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return len(failed)


def write_page(folder: Path) -> None:
    """Make REPORT.md of the reports there are."""
    paths = [folder / "reports" / f"{name}.md" for name in BENCHMARKS]
    text = page(Report.read(path) for path in paths if path.exists())
    with complete(folder / "REPORT.md") as part:
        part.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
