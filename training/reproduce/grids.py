"""Which cells CARE's tables have: what each changes of the base run, what it is compared with.

The base run gives data, input, backbone, sampler, attention settings and budget. Its loss,
augmentation, MixUp and third stage are replaced, for they are what the tables vary. Every cell has
a second stage; the arm without attention has no attended labels there and differs in nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.boxes.generate import Generator
from training.boxes.saliency import SALIENCY
from training.config import AugmentationSettings, LossSettings, TrainingRun
from training.errors import ConfigError
from training.network import is_file
from training.reproduce.ablation import ablation
from training.reproduce.comparison import comparison
from training.reproduce.options import options
from training.reproduce.paper import TABLE1, TABLE2, TABLE3, TABLE4, Published
from training.reproduce.rows import CSL, WITHOUT_CARE, Cell, Choices, Grid

AUTHORS_AUGMENTATION = AugmentationSettings(
    flip_horizontal=True,
    flip_vertical=True,
    rotation=180,
    zoom=(0.7, 1.3),
    shift=0.1,
    brightness=0.02,
    contrast=0.02,
    saturation=0.02,
    hue=3.6,
)
"""Arm DA where the run has no augmentation of its own: the list in the authors' code, for skin."""


def strategies(run: TrainingRun, choices: Choices) -> Grid:
    """Table 1."""
    ours = run.augmentation
    augmentation = ours if ours != AugmentationSettings() else AUTHORS_AUGMENTATION
    arms: dict[str, dict[str, Any]] = {
        "baseline": {},
        "CSL": CSL,
        "FL": {"loss": LossSettings(name="focal", gamma=run.loss.gamma)},
        "DA": {"augmentation": augmentation},
    }
    cells = []
    for title, settings in arms.items():
        with_care = "CARE" if title == "baseline" else f"CARE+{title}"
        cells += _pair(title.lower(), (title, with_care), settings, TABLE1)
    return Grid("table1", "Strategies against imbalance, without and with CARE", tuple(cells))


def networks(run: TrainingRun, choices: Choices) -> Grid:
    """Table 2.

    Raises:
        ConfigError: The run starts from a file, which fits one backbone alone.
    """
    if is_file(run.network.weights) and set(choices.backbones) != {run.network.backbone}:
        raise ConfigError(
            f"network.weights = {run.network.weights!r} fits {run.network.backbone} alone; table2 "
            "needs a torchvision name that every backbone has, such as "
            "--set network.weights=IMAGENET1K_V1"
        )
    cells = []
    for name in choices.backbones:
        settings = CSL | {"network.backbone": name}
        cells += _pair(name, (name, f"{name}+CARE"), settings, TABLE2)
    return Grid("table2", "Backbones, cost-sensitive, without and with CARE", tuple(cells))


def box_scales(run: TrainingRun, choices: Choices) -> Grid:
    """Table 3; each scale is tested against boxes as drawn."""
    cells = [
        Cell(
            f"scale-{scale}",
            f"box scale {scale}",
            CSL | {"attention.box_scale": scale},
            () if scale == 1 else ("scale-1.0",),
            published,
        )
        for scale, published in TABLE3.items()
    ]
    return Grid("table3", "Scale of the boxes, CARE+CSL", tuple(cells))


def alphas(run: TrainingRun, choices: Choices) -> Grid:
    """Table 4; alpha 0 is no attention."""
    cells = [
        Cell(
            f"alpha-{alpha}",
            f"alpha {alpha}",
            CSL | ({"attention.alpha": alpha} if alpha else WITHOUT_CARE),
            ("alpha-0.0",) if alpha else (),
            published,
        )
        for alpha, published in TABLE4.items()
    ]
    return Grid("table4", "Share of the attention loss (alpha), CARE+CSL", tuple(cells))


def activation_maps(run: TrainingRun, choices: Choices) -> Grid:
    """The two networks whose maps figure 2 shows."""
    return Grid("figure2", "Activation maps without and with CARE", tuple(_csl_pair()))


def box_sources(run: TrainingRun, choices: Choices) -> Grid:
    """Boxes given, and boxes made by each method; the idea is the journal version's.

    A box in the middle tells how much of the gain needs no lesion to be found. Lungs are looked for
    where the run's pictures are gray.
    """
    without, given = _csl_pair()
    with_given = run.data.boxes or run.data.layout == "rsna"
    cells = [without, *([replace(given, title="CARE, boxes given")] if with_given else [])]
    partners = tuple(cell.name for cell in cells)
    cells += [
        Cell(
            "boxes-" + source.name.replace(" ", "-"),
            f"CARE, boxes by {source.name}",
            CSL,
            partners,
            boxes_by=source,
        )
        for source in generators(run, choices.segmenter)
    ]
    return Grid("boxes", "Sources of the boxes, CARE+CSL", tuple(cells))


def generators(run: TrainingRun, segmenter: Path | None) -> list[Generator]:
    """The ways of making boxes that suit a run's pictures."""
    found = [Generator(method=method) for method in ("center", *SALIENCY)]
    if run.input.color == "gray":
        found.append(Generator(method="lungs"))
        found += [Generator(method=method, within_lungs=True) for method in SALIENCY]
    if segmenter is not None:
        found.append(Generator(method="segment", segmenter=segmenter))
    return found


def _csl_pair() -> list[Cell]:
    return _pair("csl", ("CSL", "CARE+CSL"), CSL, TABLE1)


def _pair(
    name: str,
    titles: tuple[str, str],
    settings: dict[str, Any],
    paper: Mapping[str, Published],
) -> list[Cell]:
    without, with_care = titles
    return [
        Cell(name, without, settings | WITHOUT_CARE, paper=paper.get(without)),
        Cell(f"{name}-care", with_care, settings, (name,), paper.get(with_care)),
    ]


GRIDS: dict[str, Callable[[TrainingRun, Choices], Grid]] = {
    "table1": strategies,
    "table2": networks,
    "table3": box_scales,
    "table4": alphas,
    "figure2": activation_maps,
    "boxes": box_sources,
    "options": options,
    "compare": comparison,
    "ablation_deep_pneumonia": ablation,
}
"""Every grid, from the base run and the user's choices. A further table is a further line."""
