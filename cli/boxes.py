"""care boxes make, fit, compare: lesion boxes by machine; `make` may be left out."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cli.errors import fail, one_line_errors

if TYPE_CHECKING:
    from training.data.samples import SampleList

METHODS = "border, spectral-residual, fine-grained, frequency-tuned, lungs, segment or center"


class _MakeByDefault(TyperGroup):
    """Takes `care boxes --data …` for `care boxes make --data …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["make", *args]
        return super().parse_args(ctx, args)


boxes = typer.Typer(
    cls=_MakeByDefault,
    help="Lesion boxes by machine, for those who have none: make, fit, compare. "
    "Without a verb: make.",
    no_args_is_help=True,
)

Data = Annotated[Path, typer.Option(help="Folder of the data set.", exists=True)]
Layout = Annotated[
    str, typer.Option(help="What it looks like: manifest, folders, isic2018 or rsna.")
]
Manifest = Annotated[str, typer.Option(help="List of the pictures, below DATA.")]
ImageColumn = Annotated[str, typer.Option(help="Column of the list with the picture's path.")]
LabelColumn = Annotated[str, typer.Option(help="Column of the list with the label.")]
Images = Annotated[
    str, typer.Option(help="Folder of the pictures, below DATA.  [default: the layout's usual one]")
]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes; 0 works in this one.  [default: one per core]", min=0),
]
LeaveOut = Annotated[
    Path | None,
    typer.Option(
        "--except",
        help="CSV with a column image: pictures not to compare on, such as those learned from.",
        exists=True,
        dir_okay=False,
    ),
]
Report = Annotated[
    Path | None, typer.Option(help="Write the comparison here, as Markdown.", dir_okay=False)
]
Sheet = Annotated[
    Path | None,
    typer.Option(
        help="Draw the boxes over small pictures, the least sure first: .html, or .png in pages. "
        "It shows patients' pictures and file names.",
        dir_okay=False,
    ),
]


def load(
    data: Path,
    layout: str,
    manifest: str,
    image_column: str,
    label_column: str,
    images: str,
    drawn: Path | None,
) -> "SampleList":
    """The pictures of a data set, with their boxes."""
    from training.config import DataSettings
    from training.data.layouts import load_samples

    return load_samples(
        DataSettings(
            layout=layout,
            root=str(data),
            manifest=manifest,
            image_column=image_column,
            label_column=label_column,
            images=images,
            boxes=str(drawn.resolve()) if drawn else "",
        )
    )


def show(
    samples: "SampleList",
    made: list[Path],
    drawn: Path | None,
    leave_out: Path | None,
    report_to: Path | None,
    sheet: Path | None,
    workers: int | None,
) -> None:
    """Compare made boxes with drawn ones, and draw the sheet, as far as wanted."""
    if drawn:
        from training.boxes.report import compare_boxes, markdown, report
        from training.files import complete

        compared = [compare_boxes(one, drawn, samples, leave_out=leave_out) for one in made]
        typer.echo(markdown(compared))
        if report_to:
            command = shlex.join(["care", *sys.argv[1:]])
            report_to.parent.mkdir(parents=True, exist_ok=True)
            with complete(report_to) as part:
                part.write_text(report(compared, drawn, command), encoding="utf-8")
    if sheet:
        from training.boxes.sheet import write_sheet

        for page in write_sheet(samples, made, sheet, drawn=drawn, workers=workers):
            typer.echo(f"{page}: made of the pictures, and named as they are; mind where it goes")


@boxes.command()
@one_line_errors()
def make(
    data: Data,
    out: Annotated[Path, typer.Option(help="The boxes, a CSV file.", dir_okay=False)],
    method: Annotated[str, typer.Option(help=f"How lesions are found: {METHODS}.")] = "border",
    segmenter: Annotated[
        Path | None,
        typer.Option(help="ONNX model of the method segment.", exists=True, dir_okay=False),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Boxes are scaled by this.  [default: 1.1 for saliency, else 1]",
            min=0.1,
            max=3,
        ),
    ] = None,
    most: Annotated[int, typer.Option(help="Boxes per picture at most.", min=1)] = 1,
    within_lungs: Annotated[
        bool, typer.Option("--within-lungs", help="Look in the lung fields of chest films only.")
    ] = False,
    layout: Layout = "manifest",
    manifest: Manifest = "labels.csv",
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    images: Images = "",
    drawn: Annotated[
        Path | None,
        typer.Option(
            "--compare",
            "--against",
            help="Boxes drawn by people, to compare with.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    leave_out: LeaveOut = None,
    report: Report = None,
    sheet: Sheet = None,
    workers: Workers = None,
) -> None:
    """Make lesion boxes for each picture, written as a person would."""
    from training.boxes.generate import Generator, write_boxes
    from training.boxes.sheet import check_sheet

    if report and not drawn:
        fail("--report needs --compare, the boxes to compare with")
    for read in (drawn, leave_out):
        if read and out.exists() and out.samefile(read):
            fail(f"--out {out}: these boxes are read as well, and would be overwritten")
    if sheet:
        check_sheet(sheet)  # else it would fail after all the work
    samples = load(data, layout, manifest, image_column, label_column, images, None)
    generator = Generator(
        method=method, scale=scale, most=most, within_lungs=within_lungs, segmenter=segmenter
    )
    fallbacks = write_boxes(samples, generator, out, workers=workers)
    pictures = len(samples.samples)
    typer.echo(f"{out}: boxes for {pictures} pictures, of which {fallbacks} got the fallback")
    show(samples, [out], drawn, leave_out, report, sheet, workers)


@boxes.command()
@one_line_errors()
def fit(
    data: Data,
    out: Annotated[Path, typer.Option(help="The segmenter, an ONNX file.", dir_okay=False)],
    drawn: Annotated[
        Path | None,
        typer.Option("--boxes", help="Boxes of some or all pictures.", exists=True, dir_okay=False),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Folder of lesion masks, white on black, named as their pictures (any suffix, "
            "or NAME_segmentation, NAME_mask, NAME_lesion).",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Side of its input, a multiple of 32.")] = 128,
    steps: Annotated[int, typer.Option(help="Batches of 8 to learn from.", min=10)] = 400,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
    layout: Layout = "manifest",
    manifest: Manifest = "labels.csv",
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    images: Images = "",
    workers: Workers = None,
) -> None:
    """Fit a small U-Net to the boxes or masks of some pictures, to make boxes for the others."""
    from training.boxes.fit import fit_segmenter

    if (drawn is None) == (masks is None):
        fail("name what to learn from: either --boxes or --masks")
    samples = load(data, layout, manifest, image_column, label_column, images, drawn)
    learned, loss = fit_segmenter(
        samples, out, masks=masks, size=size, steps=steps, seed=seed, workers=workers
    )
    typer.echo(f"{out}: fitted to {learned} pictures, loss {loss:.3f} at the end")
    typer.echo(f"next: care boxes --data {data} --method segment --segmenter {out} --out boxes.csv")


@boxes.command()
@one_line_errors()
def compare(
    drawn: Annotated[Path, typer.Argument(help="Boxes drawn by people.", exists=True)],
    made: Annotated[list[Path], typer.Argument(help="Boxes made by machine.", exists=True)],
    data: Data,
    layout: Layout = "manifest",
    manifest: Manifest = "labels.csv",
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    images: Images = "",
    leave_out: LeaveOut = None,
    report: Report = None,
    sheet: Sheet = None,
    workers: Workers = None,
) -> None:
    """Compare one or several lists of made boxes with drawn ones: a row each, with intervals."""
    samples = load(data, layout, manifest, image_column, label_column, images, None)
    show(samples, made, drawn, leave_out, report, sheet, workers)
