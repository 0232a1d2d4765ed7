"""care replay: one row of a table, once more."""

from pathlib import Path
from typing import Annotated

import typer

from cli.errors import one_line_errors


@one_line_errors()
def replay(
    table: Annotated[Path, typer.Argument(help="A table that care score wrote.")],
    row: Annotated[int, typer.Option(help="Number of the row, from 1.", min=1)],
    source: Annotated[
        str | None,
        typer.Option(
            help="Where its file is now: the file itself, or a folder, ZIP, DICOMDIR or list that "
            "has it.  [default: where it was]"
        ),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(
            help="Folder of models.  [default: where it was]", exists=True, file_okay=False
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the file may take.", min=0.1)] = 120,
) -> None:
    """Work a row out again from its file, with the model and options of its time.

    TABLE.run.json, beside the table, says which. Exits with 0 if the row is identical, its duration
    aside; with 1 if it differs; with 2 if it cannot be tried, as something is gone or changed.
    """
    from service.batch.replay import replay as again

    found = again(table, row, source=source, models=models, seconds=timeout)
    if not found.differences:
        typer.echo(f"row {row}: identical")
        return
    typer.echo(f"row {row}: differs")
    for name, was, now in found.differences:
        typer.echo(f"  {name}: {_shown(was)} in the table, now {_shown(now)}")
    for change in found.changes:
        typer.echo(f"  since then: {change}")
    raise typer.Exit(1)


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)
