"""`care serve` becomes BentoML's server; what it hands over is checked here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from service.server.allocator import ALLOCATOR


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    seen: dict[str, object] = {}

    def note(_: str, command: list[str], environment: dict[str, str]) -> None:
        seen.update(command=" ".join(command[1:]), environment=environment)

    monkeypatch.setattr(os, "execve", note)
    return seen


def test_it_serves_on_port_3000_unless_told(handed_over):
    assert CliRunner().invoke(app, ["serve"]).exit_code == 0

    assert "bentoml serve service.api:CareService" in handed_over["command"]
    assert "--port 3000" in handed_over["command"]


def test_it_listens_where_it_is_told_to(handed_over):
    CliRunner().invoke(app, ["serve", "--host", "127.0.0.1"])

    assert "--host 127.0.0.1" in handed_over["command"]


def test_the_allocator_is_told_what_to_keep_unless_the_environment_says_otherwise(
    handed_over, monkeypatch: pytest.MonkeyPatch
):
    first, *others = ALLOCATOR
    for name in others:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(first, "7")

    CliRunner().invoke(app, ["serve"])

    assert handed_over["environment"].items() >= (ALLOCATOR | {first: "7"}).items()


def test_a_folder_of_models_reaches_the_service(handed_over, tmp_path: Path):
    result = CliRunner().invoke(app, ["serve", "--models", str(tmp_path), "--port", "8000"])

    assert result.exit_code == 0
    assert "--port 8000" in handed_over["command"]
    assert handed_over["environment"]["CARE_MODELS"] == str(tmp_path.resolve())


def test_paths_in_the_environment_start_where_the_command_does(
    handed_over, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARE_MODELS", "my-models")
    monkeypatch.setenv("CARE_API_KEYS_FILE", "keys/care.txt")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "care.txt").write_text("lab:a-key-of-the-tests-alone")

    assert CliRunner().invoke(app, ["serve"]).exit_code == 0

    root = tmp_path.resolve()
    assert handed_over["environment"]["CARE_MODELS"] == str(root / "my-models")
    assert handed_over["environment"]["CARE_API_KEYS_FILE"] == str(root / "keys" / "care.txt")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CARE_QUEUE", "many"),
        ("CARE_CONCURRENCY", "0"),
        ("CARE_ROOT_PATH", "care"),
        ("CARE_API_KEYS", "lab:Canary"),
        ("CARE_API_KEYS_FILE", os.devnull),
        ("CARE_API_KEYS_FILE", "nowhere"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named_and_nothing_is_started(
    handed_over, monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    monkeypatch.setenv(name, value)

    result = CliRunner().invoke(app, ["serve"])

    assert result.exit_code == 2
    assert result.stderr.startswith(f"care: {name if value != 'nowhere' else value}: ")
    assert "CARE_BATCH" not in result.stderr  # follows from others
    assert "Canary" not in result.stderr
    assert not handed_over


def test_no_module_is_taken_from_the_folder_it_is_started_in(handed_over, tmp_path: Path):
    for name in ("bentoml.py", "schema.py"):
        (tmp_path / name).write_text("raise SystemExit('somebody else wrote this')")
    CliRunner().invoke(app, ["serve"])
    command = [sys.executable, *handed_over["command"].split(), "--help"]

    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert said.returncode == 0, said.stderr
    assert "--working-dir" in said.stdout


def test_nothing_is_reported_to_anyone(handed_over):
    CliRunner().invoke(app, ["serve"])

    assert handed_over["environment"]["BENTOML_DO_NOT_TRACK"] == "True"


def test_a_machine_without_the_serving_extra_is_told_how_to_get_it(
    handed_over, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    result = CliRunner().invoke(app, ["serve"])

    assert result.exit_code == 2
    assert "pip install" in result.stderr
    assert not handed_over
