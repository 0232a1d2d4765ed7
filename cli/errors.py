"""What a person sees when something they can mend is wrong: one line, not a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from imaging.errors import ImagingError
from models.errors import ModelError
from service.batch.errors import BatchError
from training.errors import TrainingError

EXTRAS = {
    "bentoml": "serve-cpu",
    "jinja2": "batch",
    "pyarrow": "batch",
    "ray": "ray",
    "onnxruntime": "serve-cpu",
    "onnx": "training",
    "torch": "training",
    "torchvision": "training",
}
"""Which extra of this project brings a library that not every installation has."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End a verb with one line on stderr and exit code 2 where the file, model or option is wrong.

    Anything else is a mistake in this program and keeps its traceback. Also a decorator.
    """
    try:
        yield
    except (BatchError, ImagingError, ModelError, TrainingError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        not_installed(error.name)
    except KeyboardInterrupt:
        typer.echo("care: stopped", err=True)
        raise typer.Exit(130) from None  # 128 + SIGINT, as shells have it


def not_installed(library: str) -> NoReturn:
    """Say how a library gets here and exit with code 2."""
    extra = EXTRAS[library]
    fail(f"{library} is not installed; in the checkout: pip install --editable '.[{extra}]'")


def fail(problem: str) -> NoReturn:
    """Print what is wrong and exit with code 2."""
    typer.echo(f"care: {problem}", err=True)
    raise typer.Exit(2)
