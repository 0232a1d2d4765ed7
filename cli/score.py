"""care score: files in, a table out."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.errors import fail, one_line_errors


@one_line_errors()
def score(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="A folder, and every file below it is scored; a file; a pattern in quotes, such "
            "as 'films/**/*.dcm'; a DICOMDIR; a .txt of paths, one a line; or a .zip.",
        ),
    ],
    model: Annotated[str, typer.Option(help="Name of the model, such as chest-xray.")],
    out: Annotated[
        str,
        typer.Option(metavar="FILE", help="The table to write: .csv, .parquet or .jsonl."),
    ],
    overlays: Annotated[
        str | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Folder for overlays of the scored files, named by row and digest of the file.",
        ),
    ] = None,
    dicom_out: Annotated[
        str | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Folder for the same as Secondary Captures, where the file is DICOM.",
        ),
    ] = None,
    overlay_for: Annotated[
        str,
        typer.Option(
            metavar="top|positive|LABEL,...",
            help="What to draw: the most probable label, those at or above their operating point, "
            "or these.",
        ),
    ] = "top",
    summary: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A page to write: what was scored, the highest scores of each class with their "
            "overlays, and every error explained.",
        ),
    ] = None,
    names: Annotated[
        bool,
        typer.Option(
            "--names",
            help="Name overlays like their files, not by digest, and name files in the summary.",
        ),
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,...",
            help="Score only files whose modality, view or sop_class is one of these. Others keep "
            "their row. Can be repeated.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE,...", help="Likewise, what not to score."),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="What does the work: processes of this machine, or a Ray cluster."),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Where the Ray cluster is.  [default: one of this machine, for this run]",
            envvar="RAY_ADDRESS",
        ),
    ] = None,
    gpus: Annotated[
        float,
        typer.Option(
            help="Share of a GPU for each that runs the model in a Ray cluster.",
            min=0.01,
        ),
    ] = 1,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes to use, or CPUs of a Ray cluster; 0 scores in this one, where nothing "
            "stops a decoder that crashes or hangs.  [default: one per core]",
            min=0,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Pictures the model sees at once, which gains on a GPU only.  "
            "[default: 1 on a CPU, else 16]",
            min=1,
        ),
    ] = None,
    provider: Annotated[
        Literal["cpu", "cuda", "tensorrt", "tensorrt-fp16"] | None,
        typer.Option(help="What runs the model.  [default: a GPU if there is one]"),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that one file may take.", min=0.1)] = 120,
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
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Say nothing unless something is wrong.")
    ] = False,
) -> None:
    """Score files: one row each, errors included, in the order of the sources and of their paths.

    Stopped at any moment, the same command goes on where it was; called again when it is done, it
    scores what is new. The README lists the columns. The table appears when it is complete, and
    beside it OUT.run.json, which says how it was made.

    Sources and outputs may also be in object storage: s3://BUCKET/KEY, gs://BUCKET/KEY.
    """
    from imaging.cores import available_cores
    from models.classifier import best_batch
    from models.store import shipped_models
    from service.batch.errors import GOES_ON
    from service.batch.job import Job
    from service.batch.local import Local, provider_for
    from service.batch.outputs import Outputs
    from service.batch.places import place
    from service.batch.run import Engine, score_sources
    from service.batch.selection import parse

    if overlay_for != "top" and not (overlays or dicom_out):
        fail("--overlay-for: nothing is drawn without --overlays or --dicom-out")
    models = models or shipped_models()
    provider = provider or provider_for(models, model)
    job = Job(
        models=models,
        model=model,
        provider=provider,
        batch=batch_size or best_batch(provider),
        frame=frame,
        force=force,
        include=parse("--include", include or ()),
        exclude=parse("--exclude", exclude or ()),
        overlays=overlays is not None,
        captures=dicom_out is not None,
        draw=overlay_for if overlay_for in ("top", "positive") else tuple(overlay_for.split(",")),
    )
    central = provider != "cpu"
    by: Engine
    if engine == "ray":
        from service.batch.ray_engine import Ray

        if workers == 0:
            fail("--workers 0: a Ray cluster needs at least one")
        by = Ray(seconds=timeout, address=ray_address, workers=workers, gpus=gpus, central=central)
    else:
        cores = available_cores() if workers is None else workers
        by = Local(workers=cores, seconds=timeout, central=central)
    outputs = Outputs(
        table=place(out),
        overlays=place(overlays) if overlays else None,
        captures=place(dicom_out) if dicom_out else None,
        summary=place(summary) if summary else None,
        names=names,
    )
    try:
        counts = score_sources(sources, job, outputs, by, progress=not quiet)
    except KeyboardInterrupt:
        typer.echo(f"care: stopped; {GOES_ON}", err=True)
        raise typer.Exit(130) from None  # 128 + SIGINT, as shells have it
    except OSError as error:
        kept = f"; {GOES_ON}" if outputs.is_begun() else ""
        fail(f"{error.filename or out}: {error.strerror or error}{kept}")
    if not counts.status:
        typer.echo(f"no files in {', '.join(sources)}; {out} has its header only", err=True)
    elif not quiet:
        typer.echo(f"{counts.summary()}; see {summary or out}", err=True)
    if mistakes := counts.error_code["internal_error"]:
        files = f"{mistakes} file{'s'[: mistakes != 1]}"
        typer.echo(f"care: {files} met a mistake of this program; the table says where", err=True)
    if mistakes or (fail_on_error and counts.status["error"]):
        raise typer.Exit(1)
