"""A whole grid, finished over as many goes as it takes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from training.bootstrap import RESAMPLES
from training.config import TrainingRun
from training.data.cache import PictureCache
from training.data.dataset import attended_labels
from training.data.layouts import load_samples
from training.data.samples import SampleList
from training.errors import ConfigError, DataError
from training.files import complete
from training.fit import tell_twins
from training.reproduce.cells import run_trial
from training.reproduce.figure import write_figure
from training.reproduce.grids import GRIDS
from training.reproduce.plan import Plan, make_plan
from training.reproduce.rows import Cell, Choices, Grid
from training.reproduce.tables import Records, columns_of, table_markdown
from training.reproduce.trials import Parts, Places, Trial, make_boxes, make_trial
from training.stages import check, check_lists, preprocessing_of, split_of, stages_of


@dataclass(frozen=True, slots=True, eq=False)
class Reproduction:
    """A grid, the seeds it is run with, and where.

    Attributes:
        grid: The grid.
        base: The run it was asked of.
        reference: All pictures, with the boxes of the base run: what attention is measured against.
        parts: The lists of each seed, in order.
        places: Where things lie.
    """

    grid: Grid
    base: TrainingRun
    reference: SampleList
    parts: dict[int, Parts]
    places: Places

    @classmethod
    def of(
        cls,
        table: str,
        base: TrainingRun,
        seeds: Sequence[int],
        places: Places,
        choices: Choices,
    ) -> "Reproduction":
        """See that everything goes together before anything is trained.

        Raises:
            ConfigError: There is no such table, or the run's settings do not go with it.
            DataError: The data set is incomplete, or has no boxes, or no test list.
        """
        if table not in GRIDS:
            raise ConfigError(f"no table {table!r}: expected {', '.join(GRIDS)}")
        grid = GRIDS[table](base, choices)
        if grid.attends and not base.attention.attend:
            raise ConfigError(
                "attention.attend is empty: name the classes whose boxes are used, such as "
                """--set 'attention.attend=["minority"]'"""
            )
        runs = [each.run(base, base.seed) for cell in grid.cells for each in cell.all()]
        for run in runs:
            check(run)
        for cell in grid.cells:
            if cell.boxes_by is not None:
                cell.boxes_by.check()
        reference = load_samples(base.data)
        lists = {seed: split_of(replace(base, seed=seed), reference) for seed in seeds}
        for parts in lists.values():
            if not parts[grid.part].samples:
                raise DataError(f"the {grid.part} list is empty: nothing can be measured")
            attended = attended_labels(base.attention, parts["train"])
            boxed = [item for item in parts["train"].samples if len(item.boxes)]
            needed = grid.attends and any(cell.boxes_by is None for cell in grid.cells[1:])
            if needed and not any(item.label in attended for item in boxed):
                raise DataError(
                    "no training picture of the classes in attention.attend has a box: name a list "
                    "with --boxes, or let care boxes make one"
                )
            for run in runs:
                check_lists(run, stages_of(run), parts["train"])
        return cls(grid, base, reference, lists, places)

    def trial(self, cell: Cell, seed: int) -> Trial:
        """A cell with a seed."""
        return make_trial(
            self.grid, cell, self.base, seed, self.places, self.reference, self.parts[seed]
        )

    def trials(self) -> Iterator[Trial]:
        """All cells with all seeds, the first seed first: a table soon has all of its rows.

        A cell that is chosen on validation is left out if, when its turn comes, there is no result
        yet to choose by.
        """
        for seed, cell in product(self.parts, self.grid.cells):
            if chosen := self.choice(cell, seed):
                yield self.trial(chosen, seed)

    def choice(self, cell: Cell, seed: int) -> Cell | None:
        """A cell with the option that did best on validation; None before all were run."""
        if not cell.options:
            return cell
        named = {each.name: each for each in self.grid.cells}
        found = {name: self.trial(named[name], seed).result(self.places) for name in cell.options}
        told = {
            name: record["validation"]["mean_class_accuracy"]
            for name, record in found.items()
            if record is not None
        }
        if told.keys() != found.keys():
            return None
        return cell.choose(max(told, key=lambda name: told[name]))

    def plan(self) -> Plan:
        """What is to do and how long it takes; nothing is trained.

        In place of a choice that cannot be made yet stands one that nothing else here trains.
        """
        trials: list[Trial] = []
        for seed, cell in product(self.parts, self.grid.cells):
            chosen = self.choice(cell, seed)
            options = [self.trial(each, seed) for each in ([chosen] if chosen else cell.all())]
            others = {trial.folder(self.places) for trial in trials}
            fresh = (each for each in options if each.folder(self.places) not in others)
            trials.append(next(fresh, options[0]))
        return make_plan(trials, self.places)

    def run(self, say: Callable[[str], None]) -> None:
        """Train and measure every cell whose result is not there."""
        for cell in self.grid.cells:
            make_boxes(cell, self.base, self.places)
        looked = set()
        for trial in self.trials():
            words = f"{self.grid.name} {trial.cell.name} seed {trial.run.seed}"
            if trial.result(self.places):
                say(f"{words}: there already")
                continue
            if trial.split not in looked:  # lists are alike in most trials
                looked.add(trial.split)
                sized = preprocessing_of(trial.run)
                pictures = PictureCache.open(trial.samples, sized, self.places.cache)
                tell_twins(pictures.twins(trial.parts))
            told = columns_of(run_trial(trial, self.reference, self.places))
            say(
                f"{words}: rare recall {100 * told['rare_recall']:.1f}, "
                f"MCA {100 * told['mean_class_accuracy']:.1f}"
            )

    def records(self) -> Records:
        """The results there are."""
        found = {
            (trial.cell.name, trial.run.seed): trial.result(self.places) for trial in self.trials()
        }
        return {key: record for key, record in found.items() if record is not None}

    def write_table(self, resamples: int = RESAMPLES) -> Path:
        """Write the table of the results there are."""
        text = table_markdown(self.grid, tuple(self.parts), self.records(), resamples)
        out = self.places.results / f"{self.grid.name}.md"
        out.parent.mkdir(parents=True, exist_ok=True)
        with complete(out) as part:
            part.write_text(text, encoding="utf-8")
        return out

    def write_figure(self, out: Path) -> None:
        """Write the maps of the first seed's networks side by side.

        Raises:
            ConfigError: A network is not here any more, or never was.
        """
        seed = next(iter(self.parts))
        first = [self.trial(cell, seed) for cell in self.grid.cells]
        for trial in first:
            if not (trial.folder(self.places) / f"{trial.last}.json").exists():
                raise ConfigError(
                    f"the network of {trial.file(self.places)} is not on this machine; remove the "
                    "file to have it trained here"
                )
        write_figure(first, self.reference, self.places, out)
