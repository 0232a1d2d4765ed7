"""All methods with one backbone, one budget and the same lists: `care reproduce compare`.

The run gives data, input, backbone, augmentation, attention settings and budget. What a method is,
its own run says, in `training/runs` or the folder the user names: method, loss, batch size, second
views, pre-training, optimizer.
"""

from dataclasses import replace
from typing import Any

from training.config import LossSettings, TrainingRun
from training.errors import ConfigError
from training.reproduce.rows import CSL, WITHOUT_CARE, Cell, Choices, Grid
from training.stages import stages_of

ABOUT = (
    "Every arm learns for at most {epochs} epochs, of as many pictures, with the run's "
    "augmentation. Losses and CARE have a second stage for {second} of them, cRT its classifier's; "
    "CARE+cRT shares these out between both. Deep Pneumonia, ProCo and ECL have all epochs in one "
    "stage, with the loss, batch size, second views and optimizer of their own runs; Deep "
    "Pneumonia has its pre-training besides. *The best of these* is, for each seed, the row above "
    "CARE with the best mean class accuracy on that seed's validation list, of equal ones the "
    "first: test lists have no part in the choice."
)


def comparison(run: TrainingRun, choices: Choices) -> Grid:
    """Losses, cRT, CARE, and the methods beside it.

    Raises:
        ConfigError: The run has a method of its own, or too short a second stage, or a method's
            own run is not there.
    """
    if run.method != "care":
        raise ConfigError(
            f"method = {run.method!r}: compare runs every method on a run's data and budget; "
            'expected "care"'
        )
    if run.stage2.epochs < 2:
        raise ConfigError(
            f"stage2.epochs = {run.stage2.epochs}: CARE and cRT share them; expected 2 or more"
        )
    halves = run.stage2.epochs - run.stage2.epochs // 2, run.stage2.epochs // 2
    retrained = run.crt if run.crt.epochs else run.stage1
    same = {"augmentation": run.augmentation}
    losses: dict[str, tuple[str, dict[str, Any]]] = {
        "baseline": ("cross-entropy", {}),
        "csl": ("CSL", CSL),
        "focal": ("focal", {"loss": LossSettings(name="focal", gamma=run.loss.gamma)}),
        "class-balanced": ("class-balanced", {"loss": LossSettings(name="class_balanced")}),
        "ldam-drw": ("LDAM-DRW", {"loss": LossSettings(name="ldam_drw")}),
        "logit-adjusted": ("logit adjustment", {"loss": LossSettings(name="logit_adjusted")}),
    }
    without = {name: WITHOUT_CARE | settings for name, (_, settings) in losses.items()}
    with_care = {name: settings for name, (_, settings) in losses.items()}
    without["crt"] = WITHOUT_CARE | {
        "control.second_stage": False,
        "crt": replace(retrained, epochs=run.stage2.epochs),
    }
    with_care["crt"] = {"stage2.epochs": halves[0], "crt": replace(retrained, epochs=halves[1])}
    titles = {name: title for name, (title, _) in losses.items()} | {"crt": "cRT"}
    against = ("baseline",)
    cells = [
        Cell(name, titles[name], same | settings, () if name == "baseline" else against)
        for name, settings in without.items()
    ]
    cells += [
        Cell("care", "CARE", same, against),
        Cell("best", "the best of these", same, against, options=without),
        Cell("best-care", "CARE + the best of these", same, ("best",), options=with_care),
    ]
    for name, title in (("deep-pneumonia", "Deep Pneumonia"), ("proco", "ProCo"), ("ecl", "ECL")):
        cells.append(Cell(name, title, recipe(name, run, choices), against))
    on_top = {
        "control.second_stage": True,
        "attention": run.attention,
        "stage1.epochs": run.stage1.epochs,
        "stage1.patience": run.stage1.patience,
    }
    proco = recipe("proco", run, choices)
    cells.append(Cell("proco-care", "ProCo + CARE", proco | on_top, ("proco",)))
    epochs = run.stage1.epochs + run.stage2.epochs
    about = ABOUT.format(epochs=epochs, second=run.stage2.epochs)
    return Grid("compare", "Methods compared", tuple(cells), about, baseline="baseline")


def recipe(name: str, run: TrainingRun, choices: Choices) -> dict[str, Any]:
    """What a method's own run says of the method, for one stage of all epochs of another run.

    Second views are a matter of the pictures too: a run whose pictures are gray where the method's
    are in color, or the other way round, keeps its own.

    Raises:
        ConfigError: There is no such run, or it is another method's.
    """
    file = choices.recipes / f"{name}.toml"
    own = TrainingRun.load(file)
    if own.method != name.replace("-", "_"):
        raise ConfigError(f"{file}: method = {own.method!r}, expected {name.replace('-', '_')!r}")
    return one_stage(own, run)


def one_stage(own: TrainingRun, run: TrainingRun) -> dict[str, Any]:
    """A method as its own run has it, in one stage of as many epochs as both stages of another."""
    whole = [stage.settings for stage in stages_of(run) if stage.name in ("stage1", "stage2")]
    patience = max(own.stage1.patience, sum(stage.patience for stage in whole))
    settings = WITHOUT_CARE | {
        "control.second_stage": False,
        "augmentation": run.augmentation,
        "method": own.method,
        own.method: getattr(own, own.method),
        "loss": own.loss,
        "views": own.views if own.input.color == run.input.color else run.views,
        "sampler": replace(own.sampler, epoch_pictures=run.sampler.epoch_pictures),
        "stage1": replace(
            own.stage1, epochs=sum(stage.epochs for stage in whole), patience=patience
        ),
    }
    if own.pretraining.name != "none":
        settings["pretraining"] = own.pretraining
    return settings
