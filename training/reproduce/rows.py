"""What a table is made of: cells, and what each changes of the run it was asked of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from training.boxes.generate import Generator
from training.config import (
    AugmentationSettings,
    LossSettings,
    MixUpSettings,
    StageSettings,
    TrainingRun,
)
from training.reproduce.paper import Published

BACKBONES = ("resnet18", "resnet50", "resnet152", "vgg19")
"""Those of table 2."""
RECIPES = Path(__file__).parents[1] / "runs"
"""Where each method's own settings are, if nothing else is said."""

WITHOUT_CARE: dict[str, Any] = {"attention.attend": ()}
CSL: dict[str, Any] = {"loss": LossSettings(name="cost_sensitive")}


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of a table.

    Attributes:
        name: Of its files; unique in its grid.
        title: As the paper names it.
        settings: What it changes of the base run: a section, or "section.key", and its value.
        partners: Names of the cells it is tested against.
        paper: What was published.
        boxes_by: What makes its boxes; None for those of the run.
        options: What it may change besides, by the names of cells above it: that of the cell with
            the best validation mean class accuracy is taken, for each seed anew; of equal ones the
            first.
        chosen: Whose option was taken.
    """

    name: str
    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    partners: tuple[str, ...] = ()
    paper: Published | None = None
    boxes_by: Generator | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    chosen: str = ""

    def all(self) -> list["Cell"]:
        """What it may come to: itself, or one for each of its options."""
        return [self.choose(name) for name in self.options] or [self]

    def choose(self, name: str) -> "Cell":
        """The cell with one of its options taken."""
        settings = dict(self.settings) | dict(self.options[name])
        return replace(self, settings=settings, options={}, chosen=name)

    def run(self, base: TrainingRun, seed: int) -> TrainingRun:
        """The run this cell asks for."""
        common = {
            "name": "reproduce",  # cells of several tables that train the same share the run
            "seed": seed,
            "sheet_every": 0,
            "loss": LossSettings(),
            "augmentation": AugmentationSettings(),
            "mixup": MixUpSettings(),
            "crt": StageSettings(epochs=0),
            "control.second_stage": True,
        }
        return changed(base, common | dict(self.settings))


@dataclass(frozen=True, slots=True)
class Choices:
    """What a table leaves to the user.

    Attributes:
        backbones: Rows of table 2.
        segmenter: ONNX model that makes boxes, one more source of them; see training.boxes.
        recipes: Folder with a run of each method that is no loss alone, whose settings it has.
    """

    backbones: tuple[str, ...] = BACKBONES
    segmenter: Path | None = None
    recipes: Path = RECIPES


@dataclass(frozen=True, slots=True)
class Grid:
    """A table.

    Attributes:
        name: On the command line, and of its files.
        title: What it shows.
        cells: Its rows, in order.
        about: What else its readers have to know.
        attends: Whether the attention loss has a part in it.
        baseline: Name of the cell whose seconds per epoch the others' are told in; "" for none.
        part: Which list its figures are told of, "test" or "validation".
    """

    name: str
    title: str
    cells: tuple[Cell, ...]
    about: str = ""
    attends: bool = True
    baseline: str = ""
    part: str = "test"


def changed(run: TrainingRun, settings: Mapping[str, Any]) -> TrainingRun:
    """A run with other settings: whole sections, or "section.key"."""
    for key, value in settings.items():
        section, dot, name = key.partition(".")
        if dot:
            value = replace(getattr(run, section), **{name: value})
        run = replace(run, **{section: value})
    return run
