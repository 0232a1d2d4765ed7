"""What changed between the cells of finished tables and their partners: drawn, and on one page.

    python -m scripts.evidence_plots [--results DIR] [--out DIR] [--resamples N]

One picture for each table below the folder, overview.svg of the pairs that have three seeds, and
summary.md of all of them: of every cell against its partners the difference in mean class accuracy,
macro-F1 and macro-AUROC, recall of the rare classes, pointing game and energy inside the boxes,
with the 95 % interval of a paired bootstrap over patients or lesions, whose pictures of all seeds
stay together. It reads the cells' JSON alone: neither pictures nor networks are needed.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from training.bootstrap import RESAMPLES
from training.compare import Difference, differences
from training.markdown import table
from training.report import save_figure
from training.reproduce.cells import results_of

ROOT = Path(__file__).parent.parent
EQUAL = 5e-4
"""Differences smaller than this are told as 0.0 points."""

OVERVIEW_SEEDS = 3
"""Pairs with fewer seeds are not in the overview: one draw is no result."""

HEAD = """\
# What changed, table by table

Written by `python -m scripts.evidence_plots` from the cells in results/. Differences in percentage
points with 95 % intervals (paired bootstrap over patients or lesions), of the test lists, but for
`options`, which is of the validation lists; then the sign in each seed. An interval says what other
patients would change, not what another seed would. Bold: the interval is without zero, and all
seeds, at least two, have one sign. Nothing is corrected for the number of tests. What each table
is: [docs/evidence.md](../docs/evidence.md).
"""


class Change(NamedTuple):
    """What is told of a pair: its title and seeds in words, rare classes, and differences."""

    title: str
    seeds: str
    rare: list[str]
    figures: dict[str, Difference]


class Pair(NamedTuple):
    """A cell beside its partner: titles, and the records of the seeds that both have."""

    title: str
    first: list[dict[str, Any]]
    second: list[dict[str, Any]]

    def change(self, resamples: int) -> Change:
        """The differences between the two, over their seeds."""
        first, second = (
            [results_of(record) for record in records] for records in (self.first, self.second)
        )
        return Change(
            self.title,
            ", ".join(str(record["seed"]) for record in self.first),
            self.second[0]["rare"],
            differences(first, second, resamples=resamples),
        )


def pairs(folder: Path) -> Iterator[Pair]:
    """All pairs of a table's folder."""
    cells: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for path in sorted(folder.glob("*.json")):
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


def shown_figures(rare: Sequence[str]) -> dict[str, str]:
    """What is told of a pair: figures as `differences` calls them, and their titles."""
    return {
        "mean_class_accuracy": "mean class accuracy",
        "macro_f1": "macro-F1",
        "macro_auroc": "macro-AUROC",
        **{f"recall {label}": f"recall of {label}" for label in rare},
        "attention pointing": "pointing game",
        "attention energy": "energy in the boxes",
    }


def draw(name: str, changes: Sequence[Change], out: Path) -> None:
    """Draw pairs, a line each and a panel for each figure of the first one."""
    shown = shown_figures(changes[0].rare)
    size = (2.6 * len(shown) + 2.5, 0.45 * len(changes) + 1.3)
    figure, panels = plt.subplots(1, len(shown), figsize=size, sharey=True, squeeze=False)
    for row, change in enumerate(changes):
        for panel, key in zip(panels[0], shown, strict=True):
            if found := change.figures.get(key):
                mean, low, high, by_seed = (100 * np.asarray(part) for part in found)
                face = "tab:blue" if sure(found) else "white"
                panel.plot([low, high], [row, row], color="tab:blue")
                panel.plot([mean], [row], "o", color="tab:blue", markerfacecolor=face)
                panel.plot(by_seed, [row + 0.3] * len(by_seed), "|", color="gray")
    for panel, title in zip(panels[0], shown.values(), strict=True):
        panel.axvline(0, color="gray", linewidth=0.8)
        panel.set_title(title, fontsize=9)
        panel.tick_params(labelsize=8)
    names = [
        f"{change.title}\nseed{'s' * (' ' in change.seeds)} {change.seeds}" for change in changes
    ]
    panels[0][0].set_yticks(range(len(changes)), names)
    panels[0][0].invert_yaxis()
    figure.supxlabel(
        "difference in percentage points, 95 % interval, each seed in gray; filled where the "
        "interval is without zero and all seeds agree",
        fontsize=8,
    )
    figure.suptitle(name, fontsize=10)
    save_figure(figure, out)
    plt.close(figure)


def summary(tables: dict[str, list[Change]]) -> str:
    """All tables as a page of Markdown."""
    parts = [HEAD.rstrip()]
    for name, changes in tables.items():
        shown = shown_figures(changes[0].rare)
        rows = []
        for change in changes:
            cells = [words(change.figures[key]) if key in change.figures else "-" for key in shown]
            rows.append([change.title, change.seeds, *cells])
        parts += [f"## {name}", table(["pair", "seeds", *shown.values()], rows)]
    return "\n\n".join(parts) + "\n"


def words(found: Difference) -> str:
    """A difference in points with its interval, and each seed's sign; bold if all are sure."""
    value, least, most = (round(100 * end, 1) + 0.0 for end in found[:3])  # no -0.0
    text = f"{value:+.1f} ({least:.1f} to {most:.1f})"
    return f"**{text}** `{signs(found)}`" if sure(found) else f"{text} `{signs(found)}`"


def signs(found: Difference) -> str:
    """The sign of the difference in each seed, such as "++-"; 0 where there is none."""
    return "".join("0" if abs(one) < EQUAL else "+" if one > 0 else "-" for one in found[3])


def sure(found: Difference) -> bool:
    """Whether the interval is without zero and all seeds, at least two, have one sign."""
    _, low, high, by_seed = found
    return len(by_seed) > 1 and low * high > 0 and set(signs(found)) in ({"+"}, {"-"})


def main() -> None:
    """Draw and write all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=ROOT / "evidence" / "results")
    parser.add_argument("--out", type=Path, default=ROOT / "evidence")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    arguments = parser.parse_args()
    plots = arguments.out / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    tables = {}
    for folder in sorted(path for path in arguments.results.glob("*/*") if path.is_dir()):
        if changes := [pair.change(arguments.resamples) for pair in pairs(folder)]:
            name = f"{folder.parent.name}-{folder.name}"
            draw(name, changes, plots / f"{name}.svg")
            tables[f"{folder.parent.name}, {folder.name}"] = changes
    overview = [
        change._replace(title=f"{name.replace(', ', ': ')}\n{change.title}", rare=[])
        for name, changes in tables.items()
        for change in changes
        if len(change.seeds.split(", ")) >= OVERVIEW_SEEDS
    ]
    if overview:
        draw("every pair with three seeds", overview, plots / "overview.svg")
    (arguments.out / "summary.md").write_text(summary(tables), encoding="utf-8")


if __name__ == "__main__":
    main()
