"""care train, export, evaluate, compare: from pictures to a model; PyTorch on use only."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import fail, one_line_errors

if TYPE_CHECKING:
    from training.config import TrainingRun

WORK = Path("work")

RunFile = Annotated[
    Path, typer.Argument(help="The run, a TOML such as training/runs/dermoscopy.toml.", exists=True)
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the data set, where the run's boxes and weights are looked for.",
        exists=True,
    ),
]
Boxes = Annotated[Path | None, typer.Option(help="CSV of lesion boxes, instead of the run's.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting, such as attention.alpha=0.3. Can be repeated."),
]
Folder = Annotated[
    Path | None, typer.Option(help="The run's folder.  [default: work/runs/NAME]", file_okay=False)
]
Models = Annotated[Path, typer.Option(help="Folder of models.", file_okay=False)]
Stability = Annotated[
    bool, typer.Option("--stability", help="Also how often small changes flip the top label.")
]


def load_run(
    file: Path, data: Path | None, boxes: Path | None, settings: list[str] | None
) -> "TrainingRun":
    """Read a run and what the command line changes of it."""
    from training.config import TrainingRun

    changed = list(settings or [])
    if data:
        changed.append(f"data.root={json.dumps(str(data.resolve()))}")
    if boxes:
        changed.append(f"data.boxes={json.dumps(str(boxes.resolve()))}")
    return TrainingRun.load(file, settings=tuple(changed))


@one_line_errors()
def train(
    run: RunFile,
    data: Data = None,
    boxes: Boxes = None,
    folder: Folder = None,
    settings: Settings = None,
) -> None:
    """Train a run through its stages; a run that was stopped goes on where it was."""
    from training.fit import train as train_run

    loaded = load_run(run, data, boxes, settings)
    checkpoint = train_run(loaded, folder or WORK / "runs" / loaded.name, cache=WORK / "cache")
    typer.echo(f"best checkpoint: {checkpoint}")


@one_line_errors()
def export(
    run: RunFile,
    data: Data = None,
    boxes: Boxes = None,
    folder: Folder = None,
    models: Models = Path("models"),
    stage: Annotated[
        str | None, typer.Option(help="stage1, stage2 or crt.  [default: the last one trained]")
    ] = None,
    stability: Stability = False,
    settings: Settings = None,
) -> None:
    """Turn a trained run into MODELS/NAME: graph, calibrated card, figures, README, LICENSE.

    Refused if the graph differs from a float64 run of the network.
    """
    from training.release import release

    loaded = load_run(run, data, boxes, settings)
    trained = folder or WORK / "runs" / loaded.name
    card = release(loaded, trained, models, stage=stage, with_stability=stability)
    typer.echo(f"{models / card.name}: {card.training['stage']}, sha256 {card.sha256}")


@one_line_errors()
def evaluate(
    run: RunFile,
    data: Data = None,
    boxes: Boxes = None,
    models: Models = Path("models"),
    part: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for figures, predictions and plots.", file_okay=False),
    ] = None,
    stability: Stability = False,
    settings: Settings = None,
) -> None:
    """Measure a model on a run's list of pictures, through the exported file.

    Pictures of elsewhere can be measured too: in a data.split of their own, all of them "test", and
    not every class needs to be among them. Says so if the lists are not those of the model's
    training.
    """
    from models.store import load_one
    from training.data.layouts import load_samples
    from training.data.splits import PARTS, split_sha256
    from training.evaluate import classify_list
    from training.figures import figures
    from training.figures_page import markdown
    from training.stages import split_of

    if part not in PARTS:
        fail(f"--part {part}: expected {', '.join(PARTS)}")
    loaded = load_run(run, data, boxes, settings)
    classifier = load_one(models, loaded.name, threads=2)
    known = replace(loaded.data, labels=loaded.data.labels or classifier.card.labels)
    parts = split_of(loaded, load_samples(known, complete=False), complete=False)
    pictures = parts[part]
    if not pictures.samples:
        fail(f"the {part} list is empty: nothing can be measured")
    if classifier.card.training.get("split_sha256") not in (None, split_sha256(parts)):
        typer.echo(
            f"care: these are not the lists that {loaded.name} was trained with (its card's "
            "split_sha256): pictures it has learnt from may be among those it is measured on",
            err=True,
        )
    results = classify_list(classifier, pictures)
    measured = figures(results)
    if out:
        from training.report import write_report

        write_report(results, measured, out)
    typer.echo(f"{loaded.name} on {part}: {measured['pictures']} pictures\n\n{markdown(measured)}")
    if stability:
        from training.stability import stability as measure_stability
        from training.stability import stability_markdown

        typer.echo(stability_markdown(measure_stability(classifier, pictures)))


@one_line_errors()
def compare(
    first: Annotated[Path, typer.Argument(help="What care evaluate --out wrote.", exists=True)],
    second: Annotated[Path, typer.Argument(help="The same of another model.", exists=True)],
    out: Annotated[
        Path | None, typer.Option(help="Write the comparison here too, as JSON.", dir_okay=False)
    ] = None,
) -> None:
    """Compare two models on the same pictures: paired bootstrap over groups, McNemar's test."""
    from training.compare import compare as compare_results
    from training.compare import comparison_markdown
    from training.files import complete
    from training.report import read_predictions

    compared = compare_results(read_predictions(first), read_predictions(second))
    if out:
        with complete(out) as part:
            part.write_text(json.dumps(compared, indent=1) + "\n", encoding="utf-8")
    typer.echo(comparison_markdown(compared))
