"""What changed between the cells of finished tables and their partners, drawn.

    python -m scripts.evidence_plots [--results DIR] [--out DIR] [--resamples N]

One picture for each table below the folder: of every cell against its partners the difference in
mean class accuracy, recall of the rare classes, pointing game and energy inside the boxes, with the
95 % interval of a paired bootstrap over patients or lesions, whose pictures of all seeds stay
together. It reads the cells' JSON alone: neither pictures nor networks are needed.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt

from training.bootstrap import RESAMPLES
from training.compare import differences
from training.report import save_figure
from training.reproduce.cells import results_of

ROOT = Path(__file__).parent.parent


class Pair(NamedTuple):
    """A cell beside its partner: titles, and the records of the seeds that both have."""

    title: str
    first: list[dict[str, Any]]
    second: list[dict[str, Any]]

    @property
    def seeds(self) -> str:
        """Which they are, in words."""
        numbers = [str(record["seed"]) for record in self.first]
        return f"seed{'s' * (len(numbers) > 1)} {', '.join(numbers)}"


def pairs(table: Path) -> Iterator[Pair]:
    """All pairs of a table's folder."""
    cells: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for path in sorted(table.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        cells[record["cell"]][record["seed"]] = record
    for records in cells.values():
        one = next(iter(records.values()))
        for partner in one["partners"]:
            others = cells.get(partner, {})
            if seeds := sorted(records.keys() & others.keys()):
                first = [others[seed] for seed in seeds]
                title = f"{one['title']} against {first[0]['title']}"
                yield Pair(title, first, [records[seed] for seed in seeds])


def draw(name: str, found: list[Pair], out: Path, resamples: int) -> None:
    """Draw a table's pairs, a line each and a panel for each figure."""
    rare = found[0].second[0]["rare"]
    shown = {"mean_class_accuracy": "mean class accuracy"}
    shown |= {f"recall {label}": f"recall of {label}" for label in rare}
    shown |= {"attention pointing": "pointing game", "attention energy": "energy in the boxes"}
    size = (2.6 * len(shown) + 2.5, 0.45 * len(found) + 1.3)
    figure, panels = plt.subplots(1, len(shown), figsize=size, sharey=True, squeeze=False)
    for row, pair in enumerate(found):
        first, second = (
            [results_of(record) for record in records] for records in (pair.first, pair.second)
        )
        figures = differences(first, second, resamples=resamples)
        for panel, key in zip(panels[0], shown, strict=True):
            if key in figures:
                mean, low, high, _ = figures[key]
                panel.plot([100 * low, 100 * high], [row, row], color="tab:blue")
                panel.plot([100 * mean], [row], "o", color="tab:blue")
    for panel, title in zip(panels[0], shown.values(), strict=True):
        panel.axvline(0, color="gray", linewidth=0.8)
        panel.set_title(title, fontsize=9)
        panel.tick_params(labelsize=8)
    panels[0][0].set_yticks(range(len(found)), [f"{pair.title}\n{pair.seeds}" for pair in found])
    panels[0][0].invert_yaxis()
    figure.supxlabel("difference in percentage points, 95 % interval", fontsize=8)
    figure.suptitle(name, fontsize=10)
    save_figure(figure, out)
    plt.close(figure)


def main() -> None:
    """Draw all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=ROOT / "evidence" / "results")
    parser.add_argument("--out", type=Path, default=ROOT / "evidence" / "plots")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for table in sorted(path for path in arguments.results.glob("*/*") if path.is_dir()):
        if found := list(pairs(table)):
            name = f"{table.parent.name}-{table.name}"
            draw(name, found, arguments.out / f"{name}.svg", arguments.resamples)


if __name__ == "__main__":
    main()
