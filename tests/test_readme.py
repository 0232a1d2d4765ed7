"""The README's commands exist as they are written there, and its links lead somewhere.

What it shows of the API is run in tests/service/test_api_chapter.py.
"""

import re
import shlex
from pathlib import Path

import pytest
import typer

from cli.main import app
from scripts.codes_table import END, START, page
from service.batch.codes import CODES
from service.batch.job import columns

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "docs/operations.md"]


def commands(program: str) -> list[list[str]]:
    """Words of each of the README's shell lines that start with a program."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words for words in lines if words and words[0] == program]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page: str):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())

    assert links
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


@pytest.mark.parametrize("words", commands("make"), ids=" ".join)
def test_every_chore_is_in_the_makefile(words: list[str]):
    assert re.search(rf"^{words[1]}:.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("words", commands("care"), ids=" ".join)
def test_every_verb_and_option_of_care_exists(words: list[str]):
    verbs = typer.main.get_group(app).commands

    assert words[1] in verbs
    verb = verbs[words[1]]
    if words[1] == "boxes":
        verb = verb.commands.get(words[2], verb.commands["make"])
    known = {option for parameter in verb.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_columns_of_a_table_are_those_that_are_written():
    section = (ROOT / "README.md").read_text().partition("## Score a folder")[2]
    table = next(part for part in section.split("\n\n") if part.startswith("| "))
    rows = [re.findall(r"`([^`]+)`", line.split("|")[1]) for line in table.splitlines()[2:]]

    assert [name for row in rows for name in row] == list(columns(("<label>",)))


def test_the_table_of_error_codes_is_made_from_the_code():
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert text == page(text), "run python -m scripts.codes_table"
    assert all(f"| `{code}` |" in text for code in CODES)


@pytest.mark.parametrize("mark", [START, END])
def test_a_page_without_its_marks_is_refused_before_anything_is_lost(mark):
    with pytest.raises(ValueError, match="the page has no '<!-- "):
        page(f"before\n{START}old\n{END}after\n".replace(mark, ""))
