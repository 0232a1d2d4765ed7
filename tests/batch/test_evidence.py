"""Overlays: of which labels, under which names."""

import dataclasses
import os
import re
from pathlib import Path

import pytest

from models.card import ModelCard
from models.store import load_card
from service.batch.errors import BatchError
from service.batch.evidence import explained
from service.batch.job import Job
from service.batch.local import Local
from tests.batch.conftest import FILES, SCORED, read_rows, score, sha256, write_picture
from tests.models_factory import square_model


def drawn(films: Path, job: Job, out: Path, **more) -> set[str]:
    overlays = out.parent / "overlays"
    score(films, dataclasses.replace(job, overlays=True), out, overlays=overlays, **more)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in overlays.iterdir())
    return {path.name for path in overlays.iterdir()}


def numbered(films: Path, ending: str) -> set[str]:
    return {f"{FILES.index(name) + 1:06d}-{sha256(films / name)[:8]}{ending}" for name in SCORED}


def test_overlays_are_named_by_row_and_digest_and_never_like_the_file(films, job, out: Path):
    assert drawn(films, job, out) == numbered(films, ".png")


def test_each_label_asked_for_has_its_overlay(films: Path, job: Job, out: Path):
    job = dataclasses.replace(job, draw=("dark", "square"))

    assert drawn(films, job, out) == numbered(films, "-dark.png") | numbered(films, "-square.png")


def test_positive_labels_are_those_whose_number_in_the_table_reaches_their_point(
    films: Path, job: Job, out: Path
):
    names = drawn(films, dataclasses.replace(job, draw="positive"), out)

    expected = set()
    for number, row in enumerate(read_rows(out), start=1):
        for label in ("dark", "square"):
            if row["label"] and float(row[f"p_{label}"]) >= 0.5:
                expected.add(f"{number:06d}-{row['sha256'][:8]}-{label}.png")
    assert names == expected


def test_a_label_at_its_operating_point_is_positive(job: Job):
    card: ModelCard = load_card(job.models, job.model)
    job = dataclasses.replace(job, draw="positive")

    assert explained({"p_dark": 0.5, "p_square": 0.499999}, job, card) == ["dark"]
    assert explained({"p_dark": 0.4, "p_square": 0.4}, job, card) == []


def test_with_names_overlays_are_named_like_their_files(films: Path, job: Job, out: Path):
    names = drawn(films, job, out, names=True)

    assert names == {f"{FILES.index(name) + 1:06d}-{name.replace('/', '_')}.png" for name in SCORED}


@pytest.mark.parametrize("letter", ["a", "é", "片", "𠀀"])
def test_with_names_a_long_path_of_any_letters_is_cut_to_what_a_name_may_have(
    job: Job, tmp_path: Path, out: Path, letter: str
):
    square_model(job.models, "long", labels=("dark", "a label of some words" * 5))
    job = dataclasses.replace(job, model="long", draw="positive")
    write_picture(tmp_path / "long" / (letter * 60) / f"{letter * 60}1.png", bright=True)

    [name] = drawn(tmp_path / "long", job, out, names=True)

    cut = name.removeprefix("000001-").partition(".png")[0]
    assert cut.strip(f"{letter}_") == "1"
    assert len(f".{name}.unfinished".encode()) <= 255
    assert len(f".{name}.unfinished".encode()) > 248 or len(cut) > 100


def test_a_label_of_any_letters_makes_a_file_name(films: Path, job: Job, out: Path):
    square_model(job.models, "odd", labels=("a/../b", "naïve b"))
    job = dataclasses.replace(job, model="odd", draw=("a/../b", "naïve b"))

    names = drawn(films, job, out)

    assert len(names) == 2 * len(SCORED)
    assert {re.sub(r"^\d{6}-\w{8}-", "", name) for name in names} == {
        "a%2F..%2Fb.png",
        "na%C3%AFve b.png",
    }


def test_a_label_the_model_does_not_know_is_refused_before_any_work(films, job, out: Path):
    with pytest.raises(BatchError, match=r"no label cat; .* knows dark, square"):
        drawn(films, dataclasses.replace(job, draw=("cat",)), out)

    assert not out.exists()


def test_overlays_may_go_to_another_disk(films, job, out: Path, monkeypatch: pytest.MonkeyPatch):
    def elsewhere(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", elsewhere)

    assert drawn(films, job, out) == numbered(films, ".png")


def test_files_with_the_same_content_have_an_overlay_each(job: Job, tmp_path: Path, out: Path):
    for name in ("a.png", "b.png", "c.png"):
        write_picture(tmp_path / "same" / name, bright=True)

    names = drawn(tmp_path / "same", job, out, engine=Local(workers=2, seconds=60))

    assert {name[:7] for name in names} == {"000001-", "000002-", "000003-"}
    assert len({name[7:] for name in names}) == 1


@pytest.mark.parametrize("what", ["overlays", "captures"])
def test_nothing_is_drawn_among_the_files_that_are_scored(films, job: Job, out: Path, what: str):
    with pytest.raises(BatchError, match="is to be scored"):
        score(films, dataclasses.replace(job, **{what: True}), out, **{what: films})
