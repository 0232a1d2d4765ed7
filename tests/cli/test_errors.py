"""What a person can mend ends in one line; what is our own mistake keeps its traceback."""

import pytest
import typer

from cli.errors import one_line_errors
from imaging.errors import UnreadableImage
from models.errors import BrokenModel
from training.errors import DataError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UnreadableImage("empty file"), "care: empty file"),
        (BrokenModel("chest: wrong digest"), "care: chest: wrong digest"),
        (DataError("no labels.csv"), "care: no labels.csv"),
        (FileNotFoundError(2, "No such file", "x.toml"), "care: x.toml: No such file"),
        (ModuleNotFoundError(name="torch"), "pip install --editable '.[training]'"),
    ],
)
def test_what_a_person_can_mend_is_one_line(error: Exception, line: str, capsys):
    with pytest.raises(typer.Exit) as ended, one_line_errors():
        raise error

    printed = capsys.readouterr().err
    assert ended.value.exit_code == 2
    assert line in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("error", [KeyError("labels"), ModuleNotFoundError(name="imaging.oops")])
def test_our_own_mistakes_keep_their_traceback(error: Exception):
    with pytest.raises(type(error)), one_line_errors():
        raise error
