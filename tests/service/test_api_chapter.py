"""The README's chapter on the API, run: its curl, its Python, and what it says comes back."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from models.store import shipped_models
from scripts import made_up
from service.api import app
from service.errors import STATUS
from service.gate import OPEN
from tests.server import Server, started

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BEFORE, CHAPTER = re.split("^## The API\n", README, flags=re.MULTILINE)
PROLOGUE, *SECTIONS = re.split("^### ", CHAPTER.partition("\n## ")[0], flags=re.MULTILINE)
HERE = "localhost:3000"
KEY = "a-key-of-the-tests-alone"
MORE = "…"
"""Stands in the chapter's examples for what they leave out."""

CURLRC = """
silent
show-error
write-out = "%{stderr}%{url} %{http_code} %{content_type}\\n"
"""

FIRST_BYTES = {
    ".png": b"\x89PNG",
    ".webp": b"RIFF",
    ".jpg": b"\xff\xd8\xff",
    ".dcm": bytes(128) + b"DICM",
}

BESIDE_THESE = {
    (HTTPStatus.NOT_FOUND, "not_found"),
    (HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed"),
    (HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error"),
}


class Answer(NamedTuple):
    path: str
    status: int
    kind: str


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def curls(text: str) -> list[str]:
    """Each line that calls curl."""
    every = [line for block in blocks(text, "bash") for line in block.splitlines()]
    return [line for line in every if line.startswith("curl ")]


def title(section: str) -> str:
    return section.partition("\n")[0]


def paths(section: str) -> set[str]:
    return {re.search(rf"{HERE}(\S+)", line)[1] for line in curls(section)}


@pytest.fixture(scope="module")
def locked(tmp_path_factory) -> Iterator[Server]:
    """A server that asks for a key."""
    with started(
        shipped_models(), tmp_path_factory.mktemp("locked"), api_keys=f"us:{KEY}"
    ) as running:
        yield running


@pytest.fixture
def reader(tmp_path, monkeypatch) -> Path:
    """The folder in which the chapter's reader stands, with a film, a photograph and a key."""
    made_up.write(tmp_path)
    (tmp_path / ".curlrc").write_text(CURLRC)
    monkeypatch.setenv("CURL_HOME", str(tmp_path))
    monkeypatch.setenv("KEY", KEY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def by_curl(section: str, server: Server) -> Iterator[tuple[Answer, bytes]]:
    """The answer and its body to each of a section's lines, as a shell runs it."""
    for line in curls(section):
        there = line.replace(HERE, server.url.removeprefix("http://"))
        done = subprocess.run(["bash", "-c", there], capture_output=True, check=True)
        url, status, kind = done.stderr.decode().split(maxsplit=2)
        body = done.stdout
        if name := re.search(r" -o (\S+)", line):
            written = Path(name[1])
            body = written.read_bytes()
            assert body.startswith(FIRST_BYTES[written.suffix])
        yield Answer(urlsplit(f"http://{url}").path, int(status), kind.strip()), body


def by_python(section: str, server: Server, monkeypatch) -> list[Answer]:
    """The answers that a section's Python gets."""
    answers = []

    class Client(httpx.Client):
        def send(self, request: httpx.Request, **options: object) -> httpx.Response:
            answer = super().send(request, **options)
            kind = answer.headers["Content-Type"]
            answers.append(Answer(request.url.path, answer.status_code, kind))
            return answer

    monkeypatch.setattr(httpx, "Client", Client)
    code = "".join(blocks(PROLOGUE, "python") + blocks(section, "python"))
    exec(code.replace(f"http://{HERE}", server.url), {})
    return answers


def like(shown: object, answer: object) -> bool:
    """Whether an example says what an answer says, as far as it goes."""
    if shown == MORE:
        return True
    if isinstance(shown, dict):
        if MORE not in shown and shown.keys() != answer.keys():
            return False
        return all(like(shown[name], answer.get(name)) for name in shown.keys() - {MORE})
    if isinstance(shown, list):
        if shown[-1] == MORE:
            shown, answer = shown[:-1], answer[: len(shown) - 1]
        return len(shown) == len(answer) and all(map(like, shown, answer))
    if isinstance(shown, str) and isinstance(answer, str):
        return re.fullmatch(".*".join(map(re.escape, shown.split(MORE))), answer) is not None
    if isinstance(shown, float):
        return answer == pytest.approx(shown, rel=0.01)  # processors differ in the last digits
    return shown == answer


@pytest.mark.parametrize("section", SECTIONS, ids=title)
def test_curl_and_python_get_what_the_chapter_shows(section, shipped, locked, reader, monkeypatch):
    server = locked if "Authorization" in section else shipped
    examples = [json.loads(block) for block in blocks(section, "json")]
    refused = any("error" in example for example in examples)

    answers = by_python(section, server, monkeypatch)

    assert answers
    assert [answer for answer in answers if (answer.status >= 400) != refused] == []
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    told = list(by_curl(section, server))
    assert [answer for answer, _ in told] == answers
    bodies = [json.loads(body) for answer, body in told if answer.kind == "application/json"]
    for example in examples:
        assert any(like(example, body) for body in bodies), json.dumps(bodies, indent=1)[:4000]


def test_a_validator_has_nothing_to_say_against_the_made_up_film(reader):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy of dicom3tools is not installed")

    said = subprocess.run(["dciodvfy", "-new", "film.dcm"], capture_output=True, text=True)

    assert [line for line in said.stderr.splitlines() if line.startswith("Error")] == []
    assert said.returncode == 0


def test_every_call_of_the_service_is_in_the_chapter():
    known = [*app.openapi()["paths"], "/openapi.json", "/"]
    shown = set().union(*map(paths, SECTIONS))

    missing = [
        path
        for path in known
        if not any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), one) for one in shown)
    ]
    assert missing == []


def test_what_needs_no_key_is_what_the_chapter_says():
    [open_to_all] = [section for section in SECTIONS if title(section) == "Ask how it is"]

    assert paths(open_to_all) == OPEN


def test_every_code_of_an_error_is_in_the_chapters_table():
    rows = re.findall(r"^\| (\d{3}) \| (.*?) \|", CHAPTER, re.MULTILINE)

    told = {(int(status), code) for status, codes in rows for code in re.findall("`(.*?)`", codes)}
    ours = {(status, kind.code) for kind, status in STATUS.items()}
    assert told == ours | BESIDE_THESE


def test_no_call_is_shown_before_the_chapter_that_is_not_in_it():
    assert set(curls(BEFORE)) <= set(curls(CHAPTER))
