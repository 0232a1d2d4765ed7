"""The same command again: what is done is done, what is new or changed is scored, nothing else."""

import dataclasses
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imaging.overlay import encode
from models.store import load_card
from service.batch import files as reading
from service.batch import run
from service.batch.errors import BatchError
from service.batch.files import File
from service.batch.job import Job, Row, digest
from service.batch.journal import Journal
from service.batch.local import Local
from service.batch.scorer import KNOWN, Known
from tests.batch.conftest import FILES, HERE, read_rows, score, timeless, write_picture
from tests.models_factory import square_model


class Watched:
    """An engine that notes what it was given, and what it made of that."""

    def __init__(self, then: Callable[[File], object] = lambda file: None) -> None:
        self.then = then
        self.given: list[str] = []
        self.scored: list[str] = []

    def __call__(self, files: Iterable[File], job: Job, known: Known | None):
        for file, row in HERE(self._noted(files), job, known):
            if row["status"] != KNOWN:
                self.scored.append(file.name)
            yield file, row
            self.then(file)

    def _noted(self, files: Iterable[File]) -> Iterable[File]:
        for file in files:
            self.given.append(file.name)
            yield file


def stop_after(count: int, error: BaseException) -> Callable[[File], object]:
    left = iter(range(count - 1))

    def stop(_: File) -> None:
        if next(left, None) is None:
            raise error

    return stop


@pytest.fixture(autouse=True)
def settled(films: Path) -> None:
    """Files that were written some time ago, as most are."""
    for path in films.rglob("*"):
        if path.is_file():
            os.utime(path, (1e9, 1e9 + 0.123456))
    time.sleep(0.03)


def test_a_stopped_run_goes_on_where_it_was(films: Path, job: Job, out: Path, tmp_path: Path):
    score(films, job, tmp_path / "undisturbed.csv")
    first, second = Watched(stop_after(3, KeyboardInterrupt())), Watched()

    with pytest.raises(KeyboardInterrupt):
        score(films, job, out, first)  # type: ignore[arg-type]
    assert not out.exists()
    score(films, job, out, second)  # type: ignore[arg-type]

    assert first.scored + second.scored == FILES
    assert second.given == second.scored
    assert timeless(out) == timeless(tmp_path / "undisturbed.csv")
    assert not list(tmp_path.glob(".*"))


def test_a_stopped_run_spoils_nothing_that_was_there(films: Path, job: Job, out: Path):
    out.write_text("of last week")

    with pytest.raises(KeyboardInterrupt):
        score(films, job, out, Watched(stop_after(3, KeyboardInterrupt())))  # type: ignore[arg-type]

    assert out.read_text() == "of last week"


def test_a_run_with_nothing_new_scores_nothing_and_gives_the_identical_table(
    films: Path, job: Job, tmp_path: Path
):
    for out in (tmp_path / "s.csv", tmp_path / "s.parquet", tmp_path / "s.jsonl"):
        score(films, job, out)
        before, record = out.read_bytes(), out.with_name(f"{out.name}.run.json").read_bytes()
        again = Watched()

        score(films, job, out, again)  # type: ignore[arg-type]

        assert again.given == FILES  # they have to be read to know
        assert again.scored == []
        assert out.read_bytes() == before
        assert out.with_name(f"{out.name}.run.json").read_bytes() == record


def test_what_was_added_changed_or_renamed_since_the_last_run_is_all_that_changes(
    films: Path, job: Job, out: Path, tmp_path: Path
):
    score(films, job, out)
    write_picture(films / "a" / "added.png", bright=True)
    write_picture(films / "a" / "other.png", bright=True, size=70)
    (films / "a-b.jpg").write_bytes((films / "a" / "inner.png").read_bytes())
    (films / "B" / "truncated.png").rename(films / "renamed.png")
    (films / "B" / "empty").unlink()
    again = Watched()

    score(films, job, out, again)  # type: ignore[arg-type]

    # what was added, and what a-b.jpg has become, is what other files are, whose rows are at hand
    assert again.scored == ["a/other.png"]
    score(films, job, tmp_path / "anew.csv")
    assert timeless(out) == timeless(tmp_path / "anew.csv")


@pytest.mark.parametrize("change", ["options", "reading", "version", "model", "labels"])
def test_another_model_or_other_options_score_everything_anew(
    films: Path, job: Job, out: Path, change: str, monkeypatch: pytest.MonkeyPatch
):
    score(films, job, out)
    before = out.read_bytes()
    if change == "options":
        job = dataclasses.replace(job, force=True)
    elif change == "reading":
        monkeypatch.setattr("service.batch.job.READING_VERSION", 0)
    elif change == "version":
        monkeypatch.setattr("service.batch.job.library_version", lambda name: "another")
    else:
        labels = ("dark", "square") if change == "model" else ("black", "square")
        shutil.rmtree(job.models / "square")
        square_model(job.models, threshold=0.4, labels=labels)
    again = Watched(lambda _: out.read_bytes() == before or pytest.fail("the old table is gone"))

    score(films, job, out, again)  # type: ignore[arg-type]

    assert again.scored == FILES
    assert out.read_bytes() != before


def test_a_row_follows_from_what_the_model_knows_of_its_training_pictures_too(job: Job):
    card = load_card(job.models, job.model)
    other = dataclasses.replace(card, distribution_sha256="0" * 64)

    assert digest(job.options(other)) != digest(job.options(card))


def test_what_a_stopped_run_did_for_other_options_is_not_taken_for_these(
    films: Path, job: Job, out: Path
):
    with pytest.raises(KeyboardInterrupt):
        score(films, job, out, Watched(stop_after(3, KeyboardInterrupt())))  # type: ignore[arg-type]
    again = Watched()

    score(films, dataclasses.replace(job, force=True), out, again)  # type: ignore[arg-type]

    assert again.scored == FILES


def test_errors_of_circumstance_are_tried_again_and_others_are_not(
    films: Path, job: Job, out: Path, monkeypatch: pytest.MonkeyPatch
):
    def tired(files: Iterable[File], job: Job, known: Known | None):
        for file, row in HERE(files, job, known):
            late: Row = {"status": "error", "error_code": "timeout", "error": "too long"}
            yield file, late if file.name == "a.png" else row

    score(films, job, out, tired)  # type: ignore[arg-type]
    again = Watched()

    score(films, job, out, again)  # type: ignore[arg-type]

    assert again.scored == ["a.png"]
    assert "timeout" not in out.read_text()


def test_errors_of_circumstance_are_tried_again_by_a_run_that_goes_on(
    films: Path, job: Job, out: Path
):
    def tired(files: Iterable[File], job: Job, known: Known | None):
        for done, (file, row) in enumerate(HERE(files, job, known)):
            late: Row = {"status": "error", "error_code": "timeout", "error": "too long"}
            yield file, row if done else late
            if done == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(films, job, out, tired)  # type: ignore[arg-type]
    again = Watched()

    score(films, job, out, again)  # type: ignore[arg-type]

    assert again.scored == [FILES[0], *FILES[3:]]
    assert "timeout" not in out.read_text()


def test_what_is_done_is_safe_before_the_run_is_at_its_end(
    films: Path, job: Job, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("service.batch.journal.COMMIT_SECONDS", -1)
    unfinished, on_disk = tmp_path / ".scores.csv.unfinished", tmp_path / "on disk"

    def power_fails(file: File) -> None:
        if file.name == FILES[3]:
            shutil.copytree(unfinished, on_disk)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(films, job, out, Watched(power_fails))  # type: ignore[arg-type]
    shutil.rmtree(unfinished)
    on_disk.rename(unfinished)
    again = Watched()

    score(films, job, out, again)  # type: ignore[arg-type]

    assert again.given == FILES[4:]
    assert len(read_rows(out)) == len(FILES)


def test_a_table_is_on_the_disk_before_it_has_its_name_and_has_that_before_anything_goes(
    films: Path, job: Job, out: Path, monkeypatch: pytest.MonkeyPatch
):
    done: list[tuple[str, str]] = []
    sync, replace, rmtree = os.fsync, Path.replace, shutil.rmtree

    def synced(descriptor: int) -> None:
        done.append(("synced", Path(_target(Path(f"/proc/self/fd/{descriptor}"))).name))
        sync(descriptor)

    def named(one: Path, name: Path) -> Path:
        done.append(("named", name.name))
        return replace(one, name)

    def gone(folder: Path, **more: Any) -> None:
        done.append(("gone", folder.name))
        rmtree(folder, **more)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", named)
    monkeypatch.setattr(shutil, "rmtree", gone)

    score(films, job, out)

    steps = [("synced", "table"), ("named", out.name), ("synced", out.parent.name)]
    steps += [("gone", ".scores.csv.unfinished")]
    assert [step for step in done if step in steps] == steps


def test_record_and_page_are_never_those_of_another_table(
    films: Path, job: Job, out: Path, monkeypatch: pytest.MonkeyPatch
):
    page, record = out.with_suffix(".html"), out.with_name("scores.csv.run.json")
    score(films, job, out, summary=page)
    before, publish = out.read_bytes(), run.publish

    def killed(finished: Path, target: Path) -> None:
        publish(finished, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            score(films, dataclasses.replace(job, force=True), out, summary=page)

    assert out.read_bytes() != before
    assert not record.exists()
    assert not page.exists()


def test_an_unchanged_file_is_not_even_read_again_after_a_stop(films: Path, job: Job, out: Path):
    with pytest.raises(KeyboardInterrupt):
        score(films, job, out, Watched(stop_after(5, KeyboardInterrupt())))  # type: ignore[arg-type]
    again = Watched()

    score(films, job, out, again)  # type: ignore[arg-type]

    assert again.given == FILES[5:]


def test_a_file_in_the_place_of_another_is_scored_though_size_and_date_are_the_same(
    films: Path, job: Job, out: Path
):
    place = films / "B" / "truncated.png"
    with pytest.raises(KeyboardInterrupt):
        score(films, job, out, Watched(stop_after(5, KeyboardInterrupt())))  # type: ignore[arg-type]
    other = films.parent / "other"
    other.write_bytes(b"x" * place.stat().st_size)
    shutil.copystat(place, other)
    other.rename(place)
    time.sleep(0.03)
    again = Watched()

    score(films, job, out, again)  # type: ignore[arg-type]

    assert again.scored == ["B/truncated.png", *FILES[5:]]


def test_a_touched_file_is_read_again_and_not_scored(films: Path, job: Job, out: Path):
    with pytest.raises(KeyboardInterrupt):
        score(films, job, out, Watched(stop_after(5, KeyboardInterrupt())))  # type: ignore[arg-type]
    os.utime(films / FILES[0], (1.1e9, 1.1e9))
    time.sleep(0.03)
    again = Watched()

    score(films, job, out, again)  # type: ignore[arg-type]

    assert again.given == [FILES[0], *FILES[5:]]
    assert again.scored == FILES[5:]


def test_files_that_come_go_and_change_during_the_run_are_as_they_are_at_its_end(
    films: Path, job: Job, out: Path, tmp_path: Path
):
    def disturb(file: File) -> None:
        if file.name == "a.png" and not (films / "0.png").exists():
            write_picture(films / "0.png", bright=True, size=71)
            write_picture(films / ".hidden" / "film.png", bright=False, size=72)
            (films / "B" / "empty").unlink()
            (films / "notes, with a comma.txt").unlink()

    watched = Watched(disturb)

    score(films, job, out, watched)  # type: ignore[arg-type]

    assert watched.scored[-2:] == [".hidden/film.png", "0.png"]
    score(films, job, tmp_path / "after.csv")
    assert timeless(out) == timeless(tmp_path / "after.csv")


def test_a_file_that_changes_all_the_time_ends_a_run_all_the_same(films: Path, job: Job, out: Path):
    def scribble(file: File) -> None:
        if file.name == "B/empty":
            path = films / "B" / "empty"
            path.write_bytes(path.read_bytes() + b"x")

    watched = Watched(scribble)

    score(films, job, out, watched)  # type: ignore[arg-type]

    assert watched.scored.count("B/empty") == run.PASSES
    assert len(read_rows(out)) == len(FILES)


def test_a_file_written_just_now_is_looked_at_twice(
    films: Path, job: Job, out: Path, monkeypatch: pytest.MonkeyPatch
):
    """A change within the same tick of the file system's clock would leave no trace."""
    changed = (films / "a.png").stat().st_ctime_ns  # what it is said to be of is long ago
    looks = iter([changed + 1])  # the clock at the first look; later ones are much later
    monkeypatch.setattr(reading.time, "time_ns", lambda: next(looks, changed + 10**10))
    watched = Watched()

    score(films / "a.png", job, out, watched)  # type: ignore[arg-type]

    assert len(watched.given) == 2
    assert len(read_rows(out)) == 1


def test_two_runs_at_once_on_one_table_are_one_too_many(films: Path, job: Job, out: Path):
    refused = []

    def second(_: File) -> None:
        with pytest.raises(BatchError, match="another run is writing this table"):
            score(films, job, out)
        refused.append(True)

    score(films, job, out, Watched(second))  # type: ignore[arg-type]

    assert len(refused) == len(FILES)
    assert len(read_rows(out)) == len(FILES)


def test_two_runs_at_once_on_two_tables_are_fine(films: Path, job: Job, tmp_path: Path):
    def second(file: File) -> None:
        if file.name == "a.png":
            score(tmp_path / "films" / "B", job, tmp_path / "second.csv")

    score(films, job, tmp_path / "first.csv", Watched(second))  # type: ignore[arg-type]

    assert len(read_rows(tmp_path / "first.csv")) == len(FILES)
    assert len(read_rows(tmp_path / "second.csv")) == 2


def test_what_is_left_of_the_folder_is_removed_last(
    films: Path, job: Job, out: Path, monkeypatch: pytest.MonkeyPatch
):
    def killed(_: Path, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            score(films, job, out)
    before = out.read_bytes()

    score(films, job, out)

    assert out.read_bytes() == before
    assert not list(out.parent.glob(".*"))


def test_no_file_of_the_folder_is_open_when_it_is_removed(
    films: Path, job: Job, out: Path, monkeypatch: pytest.MonkeyPatch
):
    """Where an open file that is removed keeps a name, as on NFS, its folder would stay."""
    rmtree, still_open = shutil.rmtree, []

    def looks(folder: Path, **more: Any) -> None:
        still_open.extend(
            one for fd in Path("/proc/self/fd").iterdir() if str(folder) in (one := _target(fd))
        )
        rmtree(folder, **more)

    monkeypatch.setattr(shutil, "rmtree", looks)

    score(films, job, out)

    assert still_open == []
    assert not list(out.parent.glob(".*"))


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # that of the listing itself
        return ""


@pytest.mark.parametrize("call", ["rmdir", "unlink"])
def test_a_folder_that_cannot_be_removed_fails_no_run_that_is_done(
    films: Path, job: Job, out: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    remove = getattr(os, call)

    def fails(path: Any, **more: Any) -> None:
        if Path(path).name in ("journal", ".scores.csv.unfinished"):
            raise OSError(39, "Directory not empty")
        remove(path, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fails)
        counts = score(films, job, out)
    again = Watched()
    score(films, job, out, again)  # type: ignore[arg-type]

    assert counts.status.total() == len(read_rows(out)) == len(FILES)
    assert again.scored == []
    assert not list(out.parent.glob(".*"))


@pytest.mark.parametrize("where", ["write_table", "record"])
def test_a_run_that_fails_at_its_very_end_has_nothing_to_score_again(
    films: Path, job: Job, out: Path, monkeypatch: pytest.MonkeyPatch, where: str
):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(run, where, full)
        with pytest.raises(OSError, match="No space"):
            score(films, job, out)
    assert not out.exists()
    again = Watched()

    score(films, job, out, again)  # type: ignore[arg-type]

    assert again.given == []
    assert len(read_rows(out)) == len(FILES)


def test_a_full_disk_ends_the_run_in_a_sentence_and_the_next_one_goes_on(
    job: Job, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The journal may have no more pages for a while, which SQLite reports as a full disk."""
    folder = tmp_path / "many"
    for number in range(300):
        write_picture(folder / f"{number:03}.png", bright=bool(number % 2))
    to_do = Journal.to_do

    def on_a_small_disk(journal: Journal) -> Iterator[File]:
        """Once all files are listed there is room for some rows, and not for all."""
        [pages] = journal._db.execute("PRAGMA page_count").fetchone()
        journal._db.execute(f"PRAGMA max_page_count = {pages + 8}")
        return to_do(journal)

    with monkeypatch.context() as patched:
        patched.setattr("service.batch.journal.COMMIT_SECONDS", -1)
        patched.setattr(Journal, "to_do", on_a_small_disk)
        with pytest.raises(BatchError, match="disk is full; what is done is kept"):
            score(folder, job, out)
    again = Watched()

    score(folder, job, out, again)  # type: ignore[arg-type]

    assert 0 < len(again.given) < 300
    assert len(read_rows(out)) == 300


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("disks can be mounted by root only")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_full_of_overlays_ends_the_run_and_a_larger_one_lets_it_go_on(
    films: Path, job: Job, small_disk: Path, workers: int
):
    job, engine = dataclasses.replace(job, overlays=True), Local(workers=workers, seconds=60)
    for number in range(20):
        noise = np.random.default_rng(number).integers(0, 255, (200, 200), np.uint8)
        (films / f"{number:02}.png").write_bytes(encode(noise))
    out, overlays = small_disk / "scores.csv", small_disk / "overlays"

    # whichever of them has to be written just then, an overlay or the journal
    with pytest.raises((OSError, BatchError), match=r"No space left|disk is full"):
        score(films, job, out, engine, overlays=overlays)
    assert not out.exists()
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    score(films, job, out, engine, overlays=overlays)

    assert len(read_rows(out)) == len(FILES) + 20
    assert len(list(overlays.iterdir())) == 24
    assert {path.name for path in small_disk.iterdir()} == {
        "overlays",
        "scores.csv",
        "scores.csv.run.json",
    }


def test_a_table_of_something_else_is_replaced_and_not_believed(films: Path, job: Job, out: Path):
    for content in (b"", b"\xff\xfe", b"file,status\na.png,ok\n", b'"'):
        out.write_bytes(content)
        again = Watched()
        score(films, job, out, again)  # type: ignore[arg-type]
        assert again.scored == FILES


def test_a_name_with_a_carriage_return_has_its_row_and_a_damaged_row_costs_no_other(
    films: Path, job: Job, out: Path
):
    names = ["Icon\r", *FILES]
    (films / names[0]).write_text("no picture either")
    for _ in range(2):
        again = Watched()
        score(films, job, out, again)  # type: ignore[arg-type]
        written = out.read_bytes()
        assert [row["file"] for row in read_rows(out)] == sorted(names)
    assert again.scored == []
    assert written.count(b"\n") == 1 + len(names)
    assert written.count(b"\r") == written.count(b'"Icon\r",') == 1

    out.write_bytes(written.replace(b'"Icon\r"', b"Icon\r"))  # as former versions wrote it
    score(films, job, out, again)  # type: ignore[arg-type]

    assert again.scored == names[:1]
    assert [row["file"] for row in read_rows(out)] == sorted(names)


def test_the_record_goes_with_its_table(films: Path, job: Job, out: Path):
    score(films, job, out)
    record = out.with_name("scores.csv.run.json")
    record.write_text("{}")

    score(films, job, out)

    assert json.loads(record.read_text())["counts"]["status"] == {"error": 3, "ok": 4}


def test_lost_overlays_are_drawn_again(films: Path, job: Job, out: Path, tmp_path: Path):
    job, overlays = dataclasses.replace(job, overlays=True), tmp_path / "overlays"
    score(films, job, out, overlays=overlays)
    drawn = sorted(overlays.iterdir())
    drawn[0].unlink()
    again = Watched()

    score(films, job, out, again, overlays=overlays)  # type: ignore[arg-type]

    assert len(again.scored) == 1
    assert sorted(overlays.iterdir()) == drawn


def test_overlays_follow_their_rows_to_new_numbers(
    films: Path, job: Job, out: Path, tmp_path: Path
):
    job, overlays = dataclasses.replace(job, overlays=True), tmp_path / "overlays"
    score(films, job, out, overlays=overlays)
    before = {path.name[7:15]: path.read_bytes() for path in overlays.iterdir()}
    (films / "B" / "empty").unlink()
    (films / "a-b.jpg").unlink()
    again = Watched()

    score(films, job, out, again, overlays=overlays)  # type: ignore[arg-type]

    rows = enumerate(read_rows(out), start=1)
    numbers = {f"{number:06d}-{row['sha256'][:8]}.png" for number, row in rows if row["label"]}
    assert again.scored == []
    assert {path.name for path in overlays.iterdir()} == numbers
    assert all(path.read_bytes() == before[path.name[7:15]] for path in overlays.iterdir())


@pytest.mark.parametrize(
    "former",
    [{"force": True}, {"draw": "positive"}, {"draw": ("dark", "square")}, {"model": "other"}, {}],
)
@pytest.mark.parametrize("names", [False, True])
def test_pictures_of_a_former_table_go_with_it_whatever_made_it(
    films: Path, job: Job, out: Path, tmp_path: Path, former: dict[str, Any], names: bool
):
    job, overlays = dataclasses.replace(job, overlays=True), tmp_path / "overlays"
    square_model(job.models, "other", labels=("a/b", "c"))
    before = dataclasses.replace(job, **{"draw": ("c",)} if "model" in former else {}, **former)
    score(films, before, out, overlays=overlays, names=names)
    foreign = {"000001-notes.png", "a.png", "000005-0000000.png", "000003-B_truncated.png.png"}
    for name in foreign:
        (overlays / name).touch()
    write_picture(films / ".first.png", bright=True, size=90)

    score(films, job, out, overlays=overlays)

    rows = enumerate(read_rows(out), start=1)
    numbers = {f"{number:06d}-{row['sha256'][:8]}.png" for number, row in rows if row["label"]}
    assert {path.name for path in overlays.iterdir()} == numbers | foreign


def test_pictures_of_a_former_table_go_from_a_folder_that_is_still_given_only(
    films: Path, job: Job, out: Path, tmp_path: Path
):
    drawing, overlays = dataclasses.replace(job, overlays=True), tmp_path / "overlays"
    score(films, drawing, out, overlays=overlays)
    drawn = sorted(overlays.iterdir())

    score(films, job, out)

    assert sorted(overlays.iterdir()) == drawn


def test_a_folder_that_has_the_pictures_of_another_table_is_refused(
    films: Path, job: Job, out: Path, tmp_path: Path
):
    """Else the evidence of one model would stand beside the answers of another."""
    job, overlays = dataclasses.replace(job, overlays=True), tmp_path / "overlays"
    square_model(job.models, "other")
    other = dataclasses.replace(job, model="other")
    score(films, job, out, overlays=overlays)
    before = {path.name: path.read_bytes() for path in overlays.iterdir()}

    with pytest.raises(BatchError, match=r"overlays has the pictures of .*scores\.csv; give each"):
        score(films, other, tmp_path / "other.csv", overlays=overlays)

    (tmp_path / "link").symlink_to(overlays)
    for name in ("link", "others/../overlays"):
        (tmp_path / "others").mkdir(exist_ok=True)
        with pytest.raises(BatchError, match=r"has the pictures of .*scores\.csv"):
            score(films, other, tmp_path / "other.csv", overlays=tmp_path / name)

    assert {path.name: path.read_bytes() for path in overlays.iterdir()} == before
    assert not (tmp_path / "other.csv").exists()
    score(films, other, tmp_path / "other.csv", overlays=tmp_path / "others")
    score(films, other, tmp_path / "other.csv", overlays=tmp_path / "others")
    assert len(list((tmp_path / "others").iterdir())) == len(before)


def test_of_two_runs_beside_each_other_the_first_to_end_has_the_folder(
    films: Path, job: Job, out: Path, tmp_path: Path
):
    job, overlays = dataclasses.replace(job, overlays=True), tmp_path / "overlays"
    square_model(job.models, "other")
    first = dataclasses.replace(job, model="other")

    def overtake(_: File) -> None:
        if not (tmp_path / "first.csv").exists():
            score(films, first, tmp_path / "first.csv", overlays=overlays)

    with pytest.raises(BatchError, match=r"overlays has the pictures of .*first\.csv"):
        score(films, job, out, Watched(overtake), overlays=overlays)

    assert not out.exists()
    again = Watched()
    score(films, job, out, again, overlays=tmp_path / "others")
    assert again.scored == []
    assert len(list((tmp_path / "others").iterdir())) == len(list(overlays.iterdir()))


@pytest.mark.parametrize("gone", ["table", "record", "pictures"])
def test_a_folder_is_free_again_when_the_table_or_its_pictures_are_gone(
    films: Path, job: Job, out: Path, tmp_path: Path, gone: str
):
    job, overlays = dataclasses.replace(job, overlays=True), tmp_path / "overlays"
    score(films, job, out, overlays=overlays)
    if gone == "pictures":
        shutil.rmtree(overlays)
    else:
        (out if gone == "table" else out.with_name("scores.csv.run.json")).unlink()

    score(films, job, tmp_path / "other.csv", overlays=overlays)

    assert len(read_rows(tmp_path / "other.csv")) == len(FILES)


def test_workers_can_say_as_well_that_a_row_is_at_hand(films: Path, job: Job, out: Path):
    score(films, job, out)
    before = out.read_bytes()

    score(films, job, out, Local(workers=2, seconds=60))

    assert out.read_bytes() == before
