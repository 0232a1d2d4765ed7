"""What very many films need: measured here per film, multiplied, the bottleneck first.

    python -m scripts.scale [--films N] [--packed SHARE] [--nodes N] [--cores N] [--gbit RATE]
                            [--overhead TIMES] [--model NAME] [--write]

Measures each stage on one core of this machine, with the films of benchmarks.batch. What cannot be
measured here - the network, how fast a storage lists, what Ray costs (benchmarks.cluster) - is
assumed, and the table says so. With --write the table goes into docs/scale.md.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.batch import parts, write_films
from models.store import load_card, shipped_models
from scripts.pages import with_part
from service.batch.files import File, Found
from service.batch.job import Job, Row, columns
from service.batch.journal import Journal
from service.batch.parts import Parts
from service.batch.places import Remote
from service.batch.scorer import Scorer
from service.batch.table import write_table
from service.batch.workers import ONE_THREAD

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
START, END = "<!-- made by python -m scripts.scale --write -->\n", "<!-- end -->\n"

FILMS = 20
ROWS = 20_000

LISTED_PER_SECOND = 5000
"""Objects that a storage lists to one who asks: five requests a second for a thousand each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Of one film; seconds are those of one core.

    Attributes:
        stages: Seconds of each stage of the nodes, by name, for each kind of film.
        read: Bytes read, for each kind of film.
        listed: Seconds of the driver to note that it is there.
        noted: Seconds of the driver to note its row.
        written: Seconds of the driver to write its row into the table.
        journal: Bytes in the journal.
        copied: Bytes of the journal's copy in object storage.
        table: Bytes in the table, as Parquet.
    """

    stages: dict[str, dict[str, float]]
    read: dict[str, int]
    listed: float
    noted: float
    written: float
    journal: float
    copied: float
    table: float


def measured(model: str) -> Costs:
    """Measure with films made for it."""
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        write_films(here / "films", FILMS, FILMS)
        kinds = {kind: sorted((here / "films").glob(f"{kind}-*")) for kind in ("plain", "packed")}
        stages = {kind: parts(films, model, here / "scratch") for kind, films in kinds.items()}
        for alone in stages.values():
            del alone["write"]  # a matter of the driver's, below
        sizes = {kind: films[0].stat().st_size for kind, films in kinds.items()}
        film = kinds["plain"][0]
        return Costs(stages=stages, read=sizes, **_driver(here, model, film))


def _driver(here: Path, model: str, film: Path) -> dict[str, float]:
    job, card = Job(models=shipped_models(), model=model), load_card(shipped_models(), model)
    [row] = Scorer(job).score([File("film", str(film))])
    kinds = columns(card.labels)
    stamps = {name: row[name] for name in ("model_sha256", "options_sha256")}
    files = [File(f"{number:08}/{number % 1000:012}.dcm", "s3://films/x") for number in range(ROWS)]
    listing = [(0, Found(file.name.encode(), file, "1-2-3-4")) for file in files]
    rows = [_another(row, card.labels, random.Random(number)) for number in range(ROWS)]
    journal = Journal(here / "journal", kinds, stamps)
    entries: list[object] = []
    start = time.process_time()
    journal.take_stock(listing)
    listed = time.process_time()
    for file, one in zip(journal.to_do(), rows, strict=True):
        journal.put(file, one)
        entries.append([file.name, "1-2-3-4", one["sha256"], [one.get(name) for name in kinds]])
    noted = time.process_time()
    with write_table(here / "table", kinds, ".parquet") as write:
        for _, one in journal.rows():
            write(one)
    written = time.process_time()
    journal.close()
    return {
        "listed": (listed - start) / ROWS,
        "noted": (noted - listed) / ROWS,
        "written": (written - noted) / ROWS,
        "journal": (here / "journal").stat().st_size / ROWS,
        "copied": _copied(entries),
        "table": (here / "table").stat().st_size / ROWS,
    }


def _another(row: Row, labels: tuple[str, ...], chance: random.Random) -> Row:
    """A row like this one, of which no archive makes less than of a real one."""
    uids = {name: f"2.25.{chance.getrandbits(128)}" for name in row if name.endswith("_uid")}
    scores = {f"p_{label}": round(chance.random(), 6) for label in labels}
    cost = {"duration_ms": round(chance.random() * 1000, 1)}
    return row | uids | scores | cost | {"sha256": chance.randbytes(32).hex()}


def _copied(entries: list[object]) -> float:
    """Bytes of an entry in a part."""
    sizes: list[int] = []

    class Counted(Remote):
        def __truediv__(self, name: str) -> "Counted":
            return self

        def write_bytes(self, content: bytes) -> None:
            sizes.append(len(content))

    copies = Parts(Counted("s3://nowhere"), "")
    for entry in entries:
        copies.add(entry)
    copies.save()
    return sum(sizes) / len(entries)


def table(costs: Costs, wish: argparse.Namespace) -> str:
    """What is needed, as Markdown; what takes longest comes first."""
    shares = {"plain": 1 - wish.packed, "packed": wish.packed}
    cores = wish.nodes * wish.cores
    lines: list[tuple[float, str, str, str]] = []

    def line(name: str, each: str, whole: str, hours: float) -> None:
        lines.append((hours, name, each, whole))

    total = 0.0
    for stage in costs.stages["plain"]:
        each = wish.overhead * sum(costs.stages[kind][stage] * shares[kind] for kind in shares)
        total += each
        hours = each * wish.films / 3600
        line(f"{stage}, on all cores", f"{1000 * each:.1f} ms", f"{hours:,.0f} h", hours / cores)
    size = sum(costs.read[kind] * shares[kind] for kind in shares)
    line(
        f"network into the nodes, {wish.gbit:g} Gbit/s each",
        f"{size / 1e6:.1f} MB",
        f"{size * wish.films / 1e12:,.1f} TB",
        size * 8 * wish.films / (wish.gbit * 1e9 * wish.nodes) / 3600,
    )
    line(
        f"listing objects, {LISTED_PER_SECOND}/s",
        "1/1000 request",
        f"{wish.films / 1000:,.0f} requests",
        wish.films / LISTED_PER_SECOND / 3600,
    )
    for name, seconds in (
        ("the driver notes what there is", costs.listed),
        ("the driver notes rows", costs.noted),
        ("the driver writes the table", costs.written),
    ):
        hours = seconds * wish.films / 3600
        line(name, f"{1e6 * seconds:.0f} µs", f"{60 * hours:.0f} min", hours)
    found = [
        f"{wish.films:,} films, {wish.packed:.0%} of them JPEG 2000, on {wish.nodes} nodes of "
        f"{wish.cores} cores: {total * wish.films / 3600:,.0f} core-hours, "
        f"{total * wish.films / 3600 / cores:.1f} hours of all cores. What takes longest comes "
        f"first and decides: **{max(lines)[0]:.1f} hours**.\n",
        "| stage | per film | all | hours |",
        "|---|--:|--:|--:|",
        *(
            f"| {name} | {each} | {all} | {hours:.2f} |"
            for hours, name, each, all in sorted(lines, reverse=True)
        ),
        "",
        "| bytes | per film | all |",
        "|---|--:|--:|",
        *(
            f"| {name} | {each:,.0f} | {each * wish.films / 1e9:,.1f} GB |"
            for name, each in (
                ("read", size),
                ("journal, on the driver's disk", costs.journal),
                ("its copies in object storage", costs.copied),
                ("table, as Parquet", costs.table),
            )
        ),
    ]
    return "\n".join(found) + "\n"


def main() -> None:
    """Measure, multiply, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--films", type=int, default=10_000_000)
    parser.add_argument("--packed", type=float, default=0.2, help="share of JPEG 2000")
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--cores", type=int, default=32, help="of each node")
    parser.add_argument("--gbit", type=float, default=10, help="Gbit/s into each node")
    parser.add_argument("--overhead", type=float, default=1.2, help="CPU time on Ray, times local")
    parser.add_argument("--model", default="chest-xray")
    parser.add_argument("--write", action="store_true", help="into docs/scale.md")
    wish = parser.parse_args()
    if not ONE_THREAD.items() <= os.environ.items():  # libraries look at it when they are loaded
        command = [sys.executable, "-m", "scripts.scale", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | ONE_THREAD)
    found = table(measured(wish.model), wish)
    print(found)
    if wish.write:
        page = with_part(PAGE.read_text(encoding="utf-8"), START, END, found)
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
