"""care serve: the service in the foreground."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import fail, not_installed, one_line_errors
from service.server.allocator import ALLOCATOR

HERE = Path(__file__).resolve().parent.parent
PATHS = ("CARE_MODELS", "CARE_API_KEYS_FILE")
"""Settings that are paths."""


@one_line_errors()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 127.0.0.1 answers this machine only.")
    ] = "0.0.0.0",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 3000,
    models: Annotated[
        Path | None,
        typer.Option(
            help="Folder of models.  [default: those shipped]", exists=True, file_okay=False
        ),
    ] = None,
) -> None:
    """Start the service and its page in the foreground.

    Everybody may ask it unless CARE_API_KEYS says who, and it has no encryption: on a network, put
    a proxy that has it in front. docs/operations.md has every setting.
    """
    if importlib.util.find_spec("bentoml") is None:
        not_installed("bentoml")
    _check_settings()
    environment = {"BENTOML_DO_NOT_TRACK": "True", **ALLOCATOR, **os.environ}
    if models:
        environment["CARE_MODELS"] = str(models)
    for name in PATHS:
        if environment.get(name):  # the service works in the checkout, not where it is started
            environment[name] = str(Path(environment[name]).resolve())
    # In this process' place, so that signals reach the service and its exit code is ours.
    # -P: no module is taken from the folder one happens to be in
    command = [sys.executable, "-P", "-m", "bentoml", "serve", "service.api:CareService"]
    command += ["--host", host, "--port", str(port), "--working-dir", str(HERE)]
    os.execve(sys.executable, command, environment)


def _check_settings() -> None:
    # BentoML would start a worker anew every ten seconds, and none would come up.
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        Settings().keys()
    except ValidationError as error:
        own = [one for one in error.errors() if one["type"] != "default_factory_not_called"]
        fail("; ".join(f"CARE_{str(one['loc'][0]).upper()}: {one['msg']}" for one in own))
    except ValueError as error:
        fail(f"CARE_API_KEYS_FILE: {error}")
