"""care score: a folder in, a table out."""

from pathlib import Path
from typing import Annotated

import typer

from cli.errors import fail, one_line_errors


@one_line_errors()
def score(
    folder: Annotated[
        Path, typer.Argument(help="Every file below it is scored.", exists=True, file_okay=False)
    ],
    model: Annotated[str, typer.Option(help="Name of the model, such as chest-xray.")],
    out: Annotated[Path, typer.Option(help="The table to write, a CSV file.", dir_okay=False)],
    overlays: Annotated[
        Path | None,
        typer.Option(
            help="Folder for one overlay per scored file, named by row and digest of the file.",
            file_okay=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes to use; 0 scores in this one, where a file on which the decoder "
            "crashes ends the run.  [default: one per core]",
            min=0,
        ),
    ] = None,
    frame: Annotated[
        int | None, typer.Option(help="Frame to score of files that have several, from 1.", min=1)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Score files the model was not made for; rows say so.")
    ] = False,
    models: Annotated[
        Path | None,
        typer.Option(
            help="Folder of models.  [default: those shipped]", exists=True, file_okay=False
        ),
    ] = None,
    fail_on_error: Annotated[
        bool, typer.Option("--fail-on-error", help="Exit with 1 if any file could not be scored.")
    ] = False,
) -> None:
    """Score every file below a folder: one row each, in path order, errors included.

    Columns: file (relative to the folder), status (ok or error), error_code, error, label (the
    most probable), probability, and p_LABEL for each label.
    """
    from models.store import shipped_models
    from service.batch.folder import score_folder
    from service.batch.scorer import Job
    from service.batch.workers import available_cores

    if overlays and overlays.resolve() == folder.resolve():
        fail("--overlays must not be the folder that is scored")
    job = Job(
        folder=folder,
        models=models or shipped_models(),
        model=model,
        frame=frame,
        force=force,
        overlays=overlays,
    )
    workers = available_cores() if workers is None else workers
    counts = score_folder(job, out, workers=workers, progress=True)
    total = counts["ok"] + counts["error"]
    if not total:
        typer.echo(f"no files in {folder}; {out} has its header only", err=True)
        return
    forced = f", {counts['forced']} of them by force" if counts["forced"] else ""
    summary = f"{total} files: {counts['ok']} scored{forced}, {counts['error']} errors"
    typer.echo(f"{summary}; see {out}", err=True)
    if fail_on_error and counts["error"]:
        raise typer.Exit(1)
