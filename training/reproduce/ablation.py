"""The four parts of Deep Pneumonia, each switched off: `care reproduce ablation_deep_pneumonia`.

The paper's tables are not public, nor is the order in which it adds the parts: no figure of it
stands beside these.
"""

from typing import Any

from training.config import DeepPneumoniaSettings, LossSettings, PretrainingSettings, TrainingRun
from training.errors import ConfigError
from training.reproduce.comparison import one_stage, recipe
from training.reproduce.rows import Cell, Choices, Grid, changed

CROSS_ENTROPY = {"loss": LossSettings()}
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "pretraining": ("pre-training", {"pretraining": PretrainingSettings()}),
    "attention": (
        "mask-guided attention",
        {"deep_pneumonia.attention": 0.0, "deep_pneumonia.lesion_only": 0.0},
    ),
    "regulation": ("contrastive regulation", {"deep_pneumonia.regulation": 0.0}),
    "class-balance": ("class-balanced loss", CROSS_ENTROPY),
}
"""The parts, in the order of the paper's abstract, and what switches each off."""

ABOUT = (
    "Every arm learns for at most {epochs} epochs in one stage; pre-training comes before and is "
    "told apart. Without attention the gate stays, and nothing guides it; without all parts there "
    "is no gate either. The paper's own figures are not public."
)


def ablation(run: TrainingRun, choices: Choices) -> Grid:
    """Deep Pneumonia, without each part, and without all of them.

    A run of Deep Pneumonia gives the method's settings too; one of CARE gives data, input,
    backbone, augmentation and budget, and the method's own run the rest.

    Raises:
        ConfigError: The run is another method's, or has a part switched off already.
    """
    if run.method not in ("care", "deep_pneumonia"):
        raise ConfigError(
            f"method = {run.method!r}: expected deep_pneumonia, or care, whose data and budget are "
            "taken"
        )
    own = run.method == "deep_pneumonia"
    full = one_stage(run, run) if own else recipe("deep-pneumonia", run, choices)
    whole = changed(run, full)
    for title, off in PARTS.values():
        if changed(whole, off) == whole:
            raise ConfigError(
                f"the run has no {title}: each part can be switched off alone where all are on"
            )
    off = {"method": "care", "deep_pneumonia": DeepPneumoniaSettings()}
    off |= PARTS["pretraining"][1] | CROSS_ENTROPY
    cells = [Cell("full", "Deep Pneumonia", full, ("plain",))]
    for name, (title, settings) in PARTS.items():
        cells.append(Cell(f"no-{name}", f"without {title}", full | settings, ("full",)))
    cells.append(Cell("plain", "without all: cross-entropy", full | off))
    return Grid(
        "ablation_deep_pneumonia",
        "The parts of Deep Pneumonia",
        tuple(cells),
        ABOUT.format(epochs=whole.stage1.epochs),
        attends=False,
        baseline="plain",
    )
