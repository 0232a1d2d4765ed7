"""JSON files → a table in the paper's layout, beside the paper's figures if any, as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from training.compare import differences, mcnemar
from training.evaluate import Results
from training.markdown import table
from training.reproduce.cells import results_of
from training.reproduce.paper import Published
from training.reproduce.rows import Grid

Records = Mapping[tuple[str, int], dict[str, Any]]
"""Results by cell name and seed."""

SHORT = {"mean_class_accuracy": "MCA", "macro_f1": "macro-F1", "macro_auroc": "macro-AUROC"}
"""Figures by the names they have in tables, where these are others."""


def table_markdown(grid: Grid, seeds: Sequence[int], records: Records, resamples: int) -> str:
    """The whole page: figures, paired tests, what was not run, and what it was made of.

    Args:
        grid: Its cells, in order.
        seeds: Those asked for.
        records: Those there are.
        resamples: Draws of the paired bootstrap.
    """
    if not records:
        return f"# {grid.title}\n\nNothing was run yet.\n"
    parts = [
        f"# {grid.title}",
        _about(grid, records),
        _figures(grid, seeds, records),
        _chosen(grid, seeds, records),
        _tests(grid, seeds, records, resamples),
        "## Not run\n\n" + _not_run(grid, seeds, records),
        "## Made of\n\n" + _made_of(records),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(grid: Grid, records: Records) -> str:
    rare = ", ".join(next(iter(records.values()))["rare"])
    text = "In percent. "
    if _published_rows(grid):
        text += (
            "*Paper* is what Zhuang et al. (MIDL 2019) published, on their data and splits: recall "
            "of the rare class / mean class accuracy (MCA). *Here* is mean "
        )
    else:
        text += "MCA is the mean class accuracy. Figures are mean "
    text += (
        f"± standard deviation over the seeds, on the {grid.part} lists; rare: {rare}. ECE is the "
        "expected calibration error after temperature scaling. Pointing game, energy inside the "
        "boxes and blank maps are those of the ReLU'd map of the true class, on pictures of these "
        "lists with boxes."
    )
    lists = {record["split"] for record in records.values()}
    seeds = {frozenset(seed for name, seed in records if name == cell) for cell, _ in records}
    if len(lists) > 1 and len(seeds) > 1:
        text += (
            " Another seed is another list: rows that do not have the same seeds are compared by "
            "the paired tests below, not by these means."
        )
    if grid.baseline:
        text += (
            " Time is that of an epoch, validation included and pre-training not, in epochs of "
            f"{_titles(grid)[grid.baseline]} with the same seed on the same machine; pre-training "
            "is told in such epochs too."
        )
    return "\n\n".join([text, *([grid.about] if grid.about else [])])


def _figures(grid: Grid, seeds: Sequence[int], records: Records) -> str:
    published, timed = _published_rows(grid), bool(grid.baseline)
    head = ["method", *(["paper: films", "paper: skin"] if published else [])]
    head += ["rare recall", "MCA", "macro-F1", "macro-AUROC", "ECE", "pointing", "energy", "blank"]
    head += [*(["time", "pre-training"] if timed else []), "seeds"]
    labels = next(iter(records.values()))["pictures"]["test"]
    rows, per_class = [], []
    for cell in grid.cells:
        own = {seed: records[cell.name, seed] for seed in seeds if (cell.name, seed) in records}
        columns = [columns_of(record) for record in own.values()]
        row = [cell.title, *(_published(cell.paper) if published else [])]
        row += [spread(column[name] for column in columns) for name in COLUMNS]
        if timed:
            times = [
                times_of(record, records.get((grid.baseline, seed))) for seed, record in own.items()
            ]
            for which in (0, 1):
                row.append(spread((pair[which] for pair in times), unit=1, digits=2))
        rows.append([*row, str(len(own))])
        found = [spread(recall_of(record, label) for record in own.values()) for label in labels]
        per_class.append([cell.title, *found])
    return "\n\n".join(
        [table(head, rows), "## Recall per class", table(["method", *labels], per_class)]
    )


COLUMNS = (
    "rare_recall",
    "mean_class_accuracy",
    "macro_f1",
    "macro_auroc",
    "calibration_error",
    "pointing",
    "energy",
    "blank",
)
"""The figures of a row, in order."""


def columns_of(record: Mapping[str, Any]) -> dict[str, float]:
    """One result's figures, as shares; NaN for those it does not have."""
    measured = record["figures"]
    recalls = [recall_of(record, label) for label in record["rare"]]
    attention = measured.get("attention", {}).get("all", {})
    return {
        "rare_recall": float(np.mean(recalls)),
        **{name: _value(measured[name]) for name in COLUMNS[1:5]},
        **{name: _value(attention.get(name)) for name in COLUMNS[5:]},
    }


def recall_of(record: Mapping[str, Any], label: str) -> float:
    """Recall of a class."""
    return _value(record["figures"]["per_class"][label]["recall"])


def times_of(record: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> tuple[float, float]:
    """Seconds of an epoch, and of the pre-training, by those of an epoch of the baseline.

    NaN where there is none, or where it was not timed on the same machine.
    """
    if baseline is None or baseline["machine"] != record["machine"]:
        return float("nan"), float("nan")

    def seconds(told: Mapping[str, Any]) -> float:
        known = [
            stage
            for name, stage in told["stages"].items()
            if name != "pretrain" and stage["seconds"] is not None
        ]
        epochs = sum(stage["epochs"] for stage in known)
        return sum(stage["seconds"] for stage in known) / epochs if epochs else float("nan")

    before = record["stages"].get("pretrain", {}).get("seconds")
    own, usual = seconds(record), seconds(baseline)
    return own / usual, float("nan") if before is None else before / usual


def spread(values: Iterable[float], *, unit: float = 100, digits: int = 1) -> str:
    """Mean ± sample standard deviation, in percent; the value alone where there is one."""
    known = unit * np.array([value for value in values if not np.isnan(value)])
    if not known.size:
        return "-"
    if known.size == 1:
        return f"{known[0]:.{digits}f}"
    return f"{known.mean():.{digits}f} ± {known.std(ddof=1):.{digits}f}"


def _chosen(grid: Grid, seeds: Sequence[int], records: Records) -> str:
    """What was chosen, seed by seed, and by what; the cells of a grid choose alike."""
    titles, lines = _titles(grid), {}
    for seed in seeds:
        for cell in grid.cells:
            if cell.options and (cell.name, seed) in records:
                found = {
                    name: records[name, seed]["validation"]["mean_class_accuracy"]
                    for name in cell.options
                }
                told = ", ".join(f"{titles[name]} {100 * mca:.1f}" for name, mca in found.items())
                chosen = titles[records[cell.name, seed]["chosen"]]
                lines[seed] = f"- seed {seed}: {chosen}, of {told}"
    if not lines:
        return ""
    return "## Chosen on validation\n\nBy mean class accuracy.\n\n" + "\n".join(lines.values())


def _tests(grid: Grid, seeds: Sequence[int], records: Records, resamples: int) -> str:
    titles, rows = _titles(grid), []
    for cell in grid.cells:
        for partner in cell.partners:
            pair = (cell.name, partner)
            both = [seed for seed in seeds if all((name, seed) in records for name in pair)]
            if both:
                first, second = (
                    [results_of(records[name, seed]) for seed in both]
                    for name in (partner, cell.name)
                )
                words = f"{cell.title} against {titles[partner]}"
                rows += [[words, *row] for row in paired_rows(first, second, resamples)]
    if not rows:
        return ""
    text = (
        "## Paired tests\n\nOn the same pictures, seed by seed: the mean of the seeds' differences "
        "in percentage points, with 95 % intervals from a bootstrap over patients or lesions, "
        "whose pictures of all seeds stay together: what other patients would change about these "
        "very networks. What "
        "another seed changes is often more, so the differences stand seed by seed as well; p is "
        "McNemar's exact test, one for each seed, which takes the pictures of one patient or "
        "lesion for independent, as the intervals do not. Nothing is corrected for the number of "
        "tests.\n\n"
    )
    head = ["pair", "figure", "difference", "95 % interval", "by seed", "p by seed"]
    return text + table(head, rows)


def paired_rows(
    first: Sequence[Results], second: Sequence[Results], resamples: int
) -> list[list[str]]:
    """Rows figure, difference, interval, differences and p by seed.

    Second minus first, seeds in the same order; a seed's pictures too.
    """
    seeds = list(zip(first, second, strict=True))
    rows = []
    for name, found in differences(first, second, resamples=resamples).items():
        tested = []
        if name == "mean_class_accuracy" or name.startswith("recall "):
            label = name.removeprefix("recall ")
            for one, other in seeds:
                chosen = np.ones(len(one.truth), bool)
                if label in one.labels:
                    chosen = one.truth == one.labels.index(label)
                tested.append(f"{mcnemar(one, other, chosen)['p']:.3f}")
        rows.append(
            [
                SHORT.get(name, name.removeprefix("attention ")),
                f"{100 * found.mean:+.1f}",
                f"{100 * found.low:+.1f} to {100 * found.high:+.1f}",
                ", ".join(f"{100 * seed:+.1f}" for seed in found.by_seed),
                ", ".join(tested) or "-",
            ]
        )
    return rows


def _not_run(grid: Grid, seeds: Sequence[int], records: Records) -> str:
    lines = []
    for cell in grid.cells:
        missing = [str(seed) for seed in seeds if (cell.name, seed) not in records]
        if missing:
            lines.append(f"- {cell.title}: seed {', '.join(missing)}")
    return "\n".join(lines) or "Every cell was run with every seed asked for."


def _made_of(records: Records) -> str:
    """Lists, budget, code and machines, each distinct one once."""
    one = next(iter(records.values()))
    run = one["run"]
    stages = [name for name in one["stages"] if name != "pretrain"]
    epochs = " + ".join(str(run[name]["epochs"]) for name in stages)
    second = all("stage2" in record["stages"] for record in records.values())
    lines = [
        "- pictures, of the first cell: "
        + "; ".join(
            f"{part} " + ", ".join(f"{label} {count}" for label, count in counts.items())
            for part, counts in one["pictures"].items()
        ),
        f"- {'' if second else 'of the first cell: '}sampler {run['sampler']['name']}, input "
        f"{run['input']['size']} pixels, at most {epochs} epochs, initial weights "
        f"{run['network']['weights']}{'; every arm has the second stage' if second else ''}",
    ]
    for title, told in (
        ("lists", {f"{seed}: {record['split']}" for (_, seed), record in records.items()}),
        (
            "code",
            {record["environment"]["commit"] or "not a checkout" for record in records.values()},
        ),
        ("machine", {record["machine"] for record in records.values()}),
    ):
        lines.append(f"- {title}: {', '.join(sorted(told))}")
    return "\n".join(lines)


def _titles(grid: Grid) -> dict[str, str]:
    return {cell.name: cell.title for cell in grid.cells}


def _published_rows(grid: Grid) -> bool:
    return any(cell.paper for cell in grid.cells)


def _published(paper: Published | None) -> tuple[str, str]:
    if paper is None:
        return "-", "-"
    return (
        f"{paper.film_recall:g} / {paper.film_mca:g}",
        f"{paper.skin_recall:g} / {paper.skin_mca:g}",
    )


def _value(figure: Mapping[str, float] | None) -> float:
    return figure["value"] if figure else float("nan")
