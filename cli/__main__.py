"""python -m cli: the same as `care`."""

from cli.main import app

app()
