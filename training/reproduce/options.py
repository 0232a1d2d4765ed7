"""What a paper fixes or leaves open, changed one at a time: `care reproduce options`.

The grid is ours. Its figures are told on the validation lists: whoever chooses a setting by it has
not looked at a test list.
"""

from typing import Any

from training.config import LossSettings, TrainingRun
from training.reproduce.rows import CSL, WITHOUT_CARE, Cell, Choices, Grid

TAUS = (0.3, 0.5, 0.7, 0.9)
LAMBDAS = (0.0, 0.5, 1.0)
LARGER = 1.5
"""How much larger a picture's side is in the arms of larger pictures."""
LONGER = 3
"""How much longer the second stage is in the arms of a longer one."""

ABOUT = (
    "Here told on the validation lists, of the epoch that did best on them: what is compared is "
    "flattered alike, and no test list was looked at. Each row changes one thing of CARE+CSL; what "
    "changes the classifier's own learning has an arm without attention too."
)


def options(run: TrainingRun, choices: Choices) -> Grid:
    """CARE+CSL as the run has it, with other settings of the attention loss, and other training."""
    cells = [
        Cell("csl", "CSL", CSL | WITHOUT_CARE),
        Cell("csl-care", "CARE+CSL", CSL, ("csl",)),
    ]
    for name, (title, settings) in attention_options(run).items():
        cells.append(Cell(name, f"CARE+CSL, {title}", CSL | settings, ("csl-care",)))
    for name, (title, settings) in training_options(run).items():
        cells += [
            Cell(name, title, CSL | settings | WITHOUT_CARE),
            Cell(f"{name}-care", f"CARE, {title}", CSL | settings, (name,)),
        ]
    title = "Settings of the attention loss, one changed at a time"
    return Grid("options", title, tuple(cells), ABOUT, part="validation")


def attention_options(run: TrainingRun) -> dict[str, tuple[str, dict[str, Any]]]:
    """Other settings of the attention loss: titles and what they change, by name."""
    own = run.attention
    found: dict[str, tuple[str, dict[str, Any]]] = {
        f"tau-{tau}": (f"tau {tau}", {"attention.tau": tau}) for tau in TAUS if tau != own.tau
    }
    for lam in LAMBDAS:
        if lam != own.lam:
            found[f"lambda-{lam}"] = (f"lambda {lam}", {"attention.lam": lam})
    head = {"attention.head_learns": not own.head_learns}
    into = "gradients into the head" if not own.head_learns else "map weights taken as constants"
    found["head"] = (into, head)
    if own.attend != ("all",):
        every = {"attention.attend": ("all",)}
        found["all"] = ("boxes of all classes", every)
        found["all-head"] = (f"boxes of all classes, {into}", every | head)
    if run.network.map_layer == "last":
        found["previous"] = ("maps of the layer before", {"network.map_layer": "previous"})
    return found


def training_options(run: TrainingRun) -> dict[str, tuple[str, dict[str, Any]]]:
    """Other ways of training the classifier, likewise."""
    side = 32 * round(LARGER * run.input.size / 32)
    long = {
        "stage2.epochs": LONGER * run.stage2.epochs,
        "stage2.patience": LONGER * run.stage2.patience,
    }
    uniform = {"loss": LossSettings(), "sampler.name": "class_uniform"}
    return {
        "longer": (f"CSL, second stage {LONGER} times as long", long),
        "uniform": ("cross-entropy, every class equally often", uniform),
        "larger": (f"CSL, {side} pixels", {"input.size": side}),
    }
