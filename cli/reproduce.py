"""care reproduce: the papers' tables, and methods compared, by one command."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from cli.errors import fail, one_line_errors
from cli.training import WORK, Boxes, Data, RunFile, Settings, load_run

LISTS = ("--seeds", "--backbones")


class ManyValues(TyperCommand):
    """Lets an option take several values at once: `--seeds 0 1 2`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each of its values."""
        spelled: list[str] = []
        option = ""
        for word in args:
            if word.startswith("-"):
                option = word if word in LISTS else ""
            elif option and spelled[-1] != option:
                spelled.append(option)
            spelled.append(word)
        return super().parse_args(ctx, spelled)


@one_line_errors()
def reproduce(
    table: Annotated[
        str,
        typer.Argument(
            help="table1 to table4, figure2, boxes, options, compare or ablation_deep_pneumonia."
        ),
    ],
    run: RunFile,
    data: Data = None,
    boxes: Boxes = None,
    seeds: Annotated[
        list[int] | None, typer.Option(help="One run of every cell for each.  [default: 0 1 2]")
    ] = None,
    backbones: Annotated[
        list[str] | None,
        typer.Option(help="Of table2.  [default: resnet18 resnet50 resnet152 vgg19]"),
    ] = None,
    segmenter: Annotated[
        Path | None,
        typer.Option(help="ONNX model: one more source of boxes.", exists=True, dir_okay=False),
    ] = None,
    recipes: Annotated[
        Path | None,
        typer.Option(
            help="Folder of deep-pneumonia.toml, proco.toml and ecl.toml, the methods' own "
            "settings.  [default: training/runs]",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    results: Annotated[
        Path, typer.Option(help="Folder of results and tables.", file_okay=False)
    ] = WORK / "results",
    out: Annotated[
        Path | None,
        typer.Option(help="The sheet of figure2, a PNG: it shows patients' pictures."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it takes; train nothing.")] = False,
    only_table: Annotated[
        bool, typer.Option("--table", help="Write the table of what is there; train nothing.")
    ] = False,
    settings: Settings = None,
) -> None:
    """Run a paper's grid with a run's data, backbone and budget, and write its table.

    Each cell with each seed leaves a JSON file and is skipped where that is there, so a grid is
    finished over several goes.
    """
    from training.reproduce.command import Reproduction
    from training.reproduce.rows import BACKBONES, RECIPES, Choices
    from training.reproduce.trials import Places

    if table == "figure2" and not (plan or only_table or out):
        fail("figure2 shows patients' pictures: say where to with --out FILE.png")
    places = Places(results, WORK / "reproduce", WORK / "cache")
    choices = Choices(tuple(backbones or BACKBONES), segmenter, recipes or RECIPES)
    loaded = load_run(run, data, boxes, settings)
    asked = Reproduction.of(table, loaded, seeds or (0, 1, 2), places, choices)
    if plan:
        typer.echo(asked.plan())
        return
    if not only_table:
        asked.run(typer.echo)
    typer.echo(asked.write_table())
    if out and not only_table:
        asked.write_figure(out)
        typer.echo(f"{out}: made of the pictures; mind where it goes")
