"""Object storage: sources and outputs in a bucket of a server on this machine."""

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.batch import parts
from service.batch.files import Found
from service.batch.job import Job
from service.batch.local import Local
from service.batch.outputs import Outputs
from service.batch.places import Place, Remote, copy, is_remote, place
from service.batch.run import Counts, score_sources
from service.batch.scorer import KNOWN
from service.batch.sources import Ours, find_all
from tests import patience
from tests.batch.conftest import FILES, HERE, SCORED, read_rows, sha256, timeless
from tests.server import free_port

pytest.importorskip("pyarrow")
pytest.importorskip("moto")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """A server that speaks S3, in a process of its own."""
    port = free_port()
    command = "import sys; from moto.server import main; main(sys.argv[1:])"
    with (
        subprocess.Popen(
            [sys.executable, "-c", command, "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "knows")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        deadline = time.monotonic() + patience.SECONDS
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield
        process.terminate()


@pytest.fixture
def bucket(server: None, request: pytest.FixtureRequest) -> str:
    """The URL of an empty bucket."""
    from pyarrow.fs import S3FileSystem

    name = f"b{abs(hash(request.node.name)):x}"
    S3FileSystem(
        endpoint_override=os.environ["AWS_ENDPOINT_URL"],
        allow_bucket_creation=True,
        connect_timeout=patience.SECONDS,
        request_timeout=patience.SECONDS,
    ).create_dir(name)
    return f"s3://{name}"


def upload(folder: Path, url: str) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            copy(path, place(f"{url}/{path.relative_to(folder)}"))
    return url


@pytest.fixture
def stored(bucket: str, films: Path) -> str:
    return upload(films, f"{bucket}/films")


def found(*sources: str) -> list[Found]:
    pairs = find_all(sources, Ours())
    return [one for _, one in sorted(pairs, key=lambda pair: (pair[0], pair[1].key))]


def names(*sources: str) -> list[str]:
    return [one.file.name for one in found(*sources)]


def run(source: str, job: Job, out: Place, engine: Any = HERE, **more: Place) -> Counts:
    return score_sources([source], job, Outputs(table=out, **more), engine)


def below(url: str) -> set[str]:
    from service.batch.objects import below

    return {name.removeprefix(f"{url}/") for name, _ in below(url)}


def rows(out: Place, tmp_path: Path) -> list[dict[str, str]]:
    copy(out, tmp_path / "fetched.csv")
    return read_rows(tmp_path / "fetched.csv")


def test_a_prefix_is_a_folder(stored: str):
    assert names(stored) == FILES
    assert names(f"{stored}/") == FILES
    assert names(f"{stored}/a") == ["inner.png"]
    assert names(stored, f"{stored}/a.png") == [f"{stored}/{name}" for name in FILES] + [
        f"{stored}/a.png"
    ]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("*.png", ["a.png"]),
        ("**/*.png", [".hidden/film.png", "B/truncated.png", "a.png", "a/inner.png"]),
        ("[!B]/*", ["a/inner.png"]),
        ("[aB]", ["B/empty", "B/truncated.png", "a/inner.png"]),
        ("?/inner.*", ["a/inner.png"]),
        ("**", FILES),
        ("**/a*", ["a-b.jpg", "a.png", "a/inner.png"]),
    ],
)
def test_a_pattern_finds_what_it_finds_among_files(stored: str, pattern: str, matched: list[str]):
    assert names(f"{stored}/{pattern}") == [f"{stored}/{name}" for name in matched]


def test_a_pattern_passes_over_no_prefix_that_may_match_and_cannot_be_listed(
    stored: str, monkeypatch: pytest.MonkeyPatch
):
    listed = Remote.iterdir

    def fails(prefix: Remote) -> Iterator[Any]:
        if prefix.name == "B":
            raise OSError(5, "access denied", prefix.url)
        return listed(prefix)

    monkeypatch.setattr(Remote, "iterdir", fails)

    problems = {one.file.name: one.error for one in found(f"{stored}/**/*.png")}
    assert "access denied" in problems[f"{stored}/B/"].problem  # type: ignore[union-attr]
    assert names(f"{stored}/*.png") == [f"{stored}/a.png"]


def test_an_object_a_list_and_a_zip_are_sources(stored: str, films: Path, tmp_path: Path):
    listed = tmp_path / "listed.txt"
    listed.write_text(f"{stored}/a.png\n{stored}/gone.png\n{films}/a-b.jpg\n{stored}/a\n")
    archive = tmp_path / "films.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(films / "a.png", "z/a.png")
        file.write(films / "a-b.jpg", "b.jpg")
    for path in (listed, archive):
        copy(path, place(stored) / path.name)  # type: ignore[operator]

    for source in (str(listed), f"{stored}/listed.txt"):
        given = found(source)
        assert [one.file.name for one in given] == listed.read_text().splitlines()
        problems = [one.error.problem if one.error else "" for one in given]
        assert problems == [
            *("", "cannot be opened: no such object", ""),
            "a folder, expected an object",
        ]
    assert names(f"{stored}/a.png") == [f"{stored}/a.png"]
    assert names(f"{stored}/films.zip") == ["z/a.png", "b.jpg"]


@pytest.mark.parametrize("name", ["films.zip", "listed.txt"])
def test_what_is_within_an_archive_or_a_list_is_scored(
    stored: str, films: Path, tmp_path: Path, job: Job, out: Path, name: str
):
    with zipfile.ZipFile(tmp_path / "films.zip", "w") as file:
        file.write(films / "a.png", "a.png")
        file.write(films / "a-b.jpg", "b.jpg")
    (tmp_path / "listed.txt").write_text(f"{stored}/a.png\n{stored}/a-b.jpg")
    copy(tmp_path / name, place(f"{stored}/{name}"))

    run(f"{stored}/{name}", job, out)

    assert [row["status"] for row in read_rows(out)] == ["ok", "ok"]
    assert [row["sha256"] for row in read_rows(out)] == [
        sha256(films / "a.png"),
        sha256(films / "a-b.jpg"),
    ]


def test_names_of_any_letters_are_read_and_what_cannot_be_is_told(
    bucket: str, films: Path, job: Job, out: Path
):
    import boto3

    strange = "größe #1? 50%.png"
    copy(films / "a.png", place(f"{bucket}/x/{strange}"))
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.put_object(Bucket=bucket.removeprefix("s3://"), Key="x//nothing.png", Body=b"")

    run(f"{bucket}/x", job, out)

    by_name = {row["file"]: row for row in read_rows(out)}
    assert by_name[strange]["status"] == "ok"
    [other] = by_name.keys() - {strange}
    assert by_name[other]["error_code"] == "inaccessible"
    assert "between two slashes" in by_name[other]["error"]


def test_the_table_is_that_of_the_same_files_here(
    stored: str, films: Path, job: Job, out: Path, tmp_path: Path
):
    run(str(films), job, out)
    there = tmp_path / "there.csv"

    run(stored, job, there, Local(workers=2, seconds=60))

    assert timeless(there) == timeless(out)


def test_outputs_appear_in_the_bucket_and_nothing_else_does(
    stored: str, bucket: str, films: Path, job: Job, tmp_path: Path
):
    here = tmp_path / "here"
    run(str(films), job, here / "scores.csv", overlays=here / "overlays")

    drawing = Job(models=job.models, model=job.model, overlays=True)
    counts = run(stored, drawing, place(f"{bucket}/out/scores.csv"), overlays=place(f"{bucket}/o"))

    assert counts.status == {"ok": len(SCORED), "error": len(FILES) - len(SCORED)}
    assert below(f"{bucket}/out") == {"scores.csv", "scores.csv.run.json"}
    overlays = below(f"{bucket}/o")
    assert len(overlays) == len(SCORED)
    one = sorted(overlays)[0]
    assert Remote(f"{bucket}/o/{one}").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("engine", [HERE, Local(workers=2, seconds=60)])
def test_a_lost_machine_is_replaced_by_another(
    stored: str, bucket: str, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any
):
    monkeypatch.setattr(parts, "SECONDS", 0)
    out = place(f"{bucket}/out/scores.csv")
    run(stored, job, place(f"{bucket}/whole.csv"))
    scored: list[str] = []

    def dies(files: Any, job: Job, known: Any) -> Any:
        for done, pair in enumerate(HERE(files, job, known)):
            if done == 3:
                raise SystemError("the machine is gone")
            yield pair

    def counts(files: Any, job: Job, known: Any) -> Any:
        for file, row in engine(files, job, known):
            scored.extend([file.name] * (row["status"] == "ok"))
            yield file, row

    with pytest.raises(SystemError):
        run(stored, job, out, dies)
    assert below(f"{bucket}/out")
    assert not out.exists()
    run(stored, job, out, counts)

    assert sorted(scored) == SCORED[1:]  # the first was done, and so are rows with their errors
    copy(out, tmp_path / "a.csv")
    copy(place(f"{bucket}/whole.csv"), tmp_path / "b.csv")
    assert timeless(tmp_path / "a.csv") == timeless(tmp_path / "b.csv")
    assert below(f"{bucket}/out") == {"scores.csv", "scores.csv.run.json"}


def test_a_run_that_is_stopped_leaves_another_machine_all_that_it_has_done(
    stored: str, bucket: str, job: Job
):
    out, given = place(f"{bucket}/out/scores.csv"), []

    def stops(files: Any, job: Job, known: Any) -> Any:
        for pair in HERE(files, job, known):
            yield pair
            given.append(pair[0].name)
            if len(given) == 4:
                raise KeyboardInterrupt

    time.sleep(2.1)  # older than what two changes within one second could hide
    with pytest.raises(KeyboardInterrupt):
        run(stored, job, out, stops)
    run(stored, job, out, stops)

    assert given == FILES


def test_what_a_lost_machine_did_for_other_options_is_not_taken_for_these(
    stored: str, bucket: str, job: Job
):
    out, forced = place(f"{bucket}/out/scores.csv"), dataclasses.replace(job, force=True)

    def stops(files: Any, job: Job, known: Any) -> Any:
        yield next(HERE(files, job, known))
        raise KeyboardInterrupt

    def scores(files: Any, job: Job, known: Any) -> Any:
        for file, row in HERE(files, job, known):
            scored.extend([file.name] * (row["status"] != KNOWN))
            yield file, row

    scored: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(stored, job, out, stops)
    run(stored, forced, out, scores)

    assert scored == FILES


def test_what_is_kept_of_a_journal_is_kept_once(bucket: str):
    journal = parts.Parts(Remote(f"{bucket}/journal"), "this table")
    for entry in ("one", "two"):
        journal.add(entry)
        journal.save()

    assert list(journal.load()) == ["one", "two"]


def test_an_object_larger_than_files_may_be_is_not_read(
    stored: str, job: Job, out: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("imaging.reading.LARGEST_FILE", 20)

    run(stored, job, out)

    codes = {row["file"]: row["error_code"] for row in read_rows(out)}
    assert codes == dict.fromkeys(FILES, "too_large") | {
        FILES[1]: "unreadable",
        FILES[6]: "unreadable",
    }


def test_objects_that_have_not_changed_are_not_read_again(
    stored: str, bucket: str, films: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(parts, "SECONDS", 0)
    time.sleep(2.1)  # older than what two changes within one second could hide
    out, asked = place(f"{bucket}/out/scores.csv"), []

    def tired(files: Any, job: Job, known: Any) -> Any:
        for pair in HERE(files, job, known):
            asked.append(pair[0].name)
            yield pair
            if len(asked) == 4:
                raise SystemError

    with pytest.raises(SystemError):
        run(stored, job, out, tired)
    copy(films / "a-b.jpg", place(f"{stored}/a.png"))
    run(stored, job, out, tired)

    assert [asked.count(name) for name in FILES[:4]] == [1, 1, 1, 1]
    table = {row["file"]: row["sha256"] for row in rows(out, tmp_path)}
    assert table["a.png"] == sha256(films / "a-b.jpg")
    asked.clear()
    asked.extend("xxxxx")
    run(stored, job, out, tired)  # a table that is there: content is compared, nothing is scored
    assert {row["file"]: row["sha256"] for row in rows(out, tmp_path)} == table


def test_a_summary_in_the_bucket_shows_what_was_drawn(stored: str, bucket: str, job: Job):
    page = f"{bucket}/out/summary.html"

    run(stored, job, place(f"{bucket}/out/scores.csv"), summary=place(page))

    assert b"data:image/webp;base64," in Remote(page).read_bytes()
    assert below(f"{bucket}/out") == {"scores.csv", "scores.csv.run.json", "summary.html"}


def test_what_is_written_is_not_scored(stored: str, films: Path, job: Job, tmp_path: Path):
    out = place(f"{stored}/scores.csv")
    drawing = Job(models=job.models, model=job.model, overlays=True)

    for _ in range(2):
        run(stored, drawing, out, overlays=place(f"{stored}/drawn"))
        assert [row["file"] for row in rows(out, tmp_path)] == FILES


def test_an_object_that_goes_away_meanwhile_is_a_row(stored: str, job: Job, out: Path):
    def late(files: Any, job: Job, known: Any) -> Any:
        for file in files:
            if file.name == "a.png":
                Remote(file.path).unlink()
            yield from HERE([file], job, known)

    run(stored, job, out, late)

    [row] = [row for row in read_rows(out) if row["file"] == "a.png"] or [None]
    assert row is None or row["error"] == "cannot be opened: no such object"


@pytest.mark.parametrize(
    ("source", "out", "problem"),
    [
        ("s3://nowhere-at-all/films", "s.csv", "s3://nowhere-at-all/films: no such object"),
        ("{stored}/gone", "s.csv", "gone: no such object, and none below it"),
        ("{stored}/*.dcm", "s.csv", "nothing matches"),
        ("{stored}", "s3://nowhere-at-all/s.csv", "nowhere-at-all"),
        ("{stored}", "s3:///s.csv", "no bucket is named"),
        ("{stored}", "s3://nowhere-at-all", "expected a name that ends in"),
    ],
)
def test_what_is_wrong_with_a_bucket_is_said_in_a_line(
    stored: str, models: Path, tmp_path: Path, source: str, out: str, problem: str
):
    from cli.main import app

    target = out if is_remote(out) else str(tmp_path / out)
    arguments = ["score", source.format(stored=stored), "--model", "square", "--workers", "0"]

    result = CliRunner().invoke(app, [*arguments, "--models", str(models), "--out", target])

    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert problem in result.stderr
    assert "Traceback" not in result.output


def test_a_server_that_refuses_is_an_error_of_the_run(
    stored: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from cli.main import app
    from service.batch import places

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        places._system.cache_clear()
        arguments = ["--model", "square", "--models", str(models), "--out", str(tmp_path / "s.csv")]
        result = CliRunner().invoke(app, ["score", stored, *arguments])
    places._system.cache_clear()

    assert result.exit_code == 2
    assert result.stderr == f"care: {stored}: network connection\n"


@pytest.mark.long
def test_a_cluster_reads_and_writes_there_and_goes_on_when_killed(
    bucket: str, models: Path, films: Path, tmp_path: Path
):
    pytest.importorskip("ray")
    many = tmp_path / "many"
    for number in range(12):
        shutil.copytree(films, many / f"{number:02}")
    stored, whole = upload(many, f"{bucket}/many"), tmp_path / "whole.csv"
    run(str(many), Job(models=models, model="square"), whole)
    arguments = ["score", stored, "--model", "square", "--models", str(models), "--engine", "ray"]
    out = f"{bucket}/out/scores.csv"
    command = [sys.executable, "-m", "cli", *arguments, "--out", out, "--quiet", "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    with subprocess.Popen(command, cwd=ROOT, env=environment) as driver:
        while driver.poll() is None and not place(f"{bucket}/out").exists():
            time.sleep(0.1)
        time.sleep(5)
        driver.kill()
    subprocess.run(command, cwd=ROOT, env=environment, check=True)

    copy(place(out), tmp_path / "scores.csv")
    assert timeless(tmp_path / "scores.csv") == timeless(whole)
