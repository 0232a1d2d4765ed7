"""The same file gets the same answer, whoever asks: over HTTP, or in a table."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.store import shipped_models
from service.batch.job import Job
from service.batch.local import Local
from service.batch.outputs import Outputs
from service.batch.run import Engine, score_sources
from tests.factories import make_color, make_dicom, make_film
from tests.service.test_secondary_capture import STUDY


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films and photographs of several sizes and kinds."""
    folder = tmp_path_factory.mktemp("files")
    for seed in range(3):
        film = make_dicom(make_film(600 + 50 * seed, 500, seed=seed), **STUDY)
        film.save_as(folder / f"film{seed}.dcm", enforce_file_format=True)
        cv2.imwrite(str(folder / f"gray{seed}.png"), make_film(300, 280 + seed, bits=8, seed=seed))
    cv2.imwrite(str(folder / "color.jpg"), make_color(300, 400))
    return folder


def table(files: Path, job: Job, out: Path, engine: Engine, **more: Path) -> dict[str, dict]:
    score_sources([str(files)], job, Outputs(table=out, **more), engine)
    with out.open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("model", ["chest-xray", "dermoscopy"])
def test_http_and_table_give_identical_numbers(serve_here, files, tmp_path, model: str):
    client = serve_here(shipped_models())
    job = Job(models=shipped_models(), model=model, force=True)

    rows = table(files, job, tmp_path / "s.csv", Local(workers=1, seconds=60))

    for path in files.iterdir():
        answer = client.post(
            "/classify",
            files={"image": path.read_bytes()},
            data={"model": model, "force": "true"},
        ).json()
        row = rows[path.name]
        for said in answer["predictions"]:
            assert float(row[f"p_{said['label']}"]) == said["probability"]
        assert row["label"] == answer["predictions"][0]["label"]
        assert row["sha256"] == answer["image"]["sha256"]
        assert row["model_sha256"] == answer["model"]["sha256"]
        assert row["in_distribution"] == str(answer["in_distribution"]).lower()
        assert (row["error_code"] == "forced") is answer["forced"]


@pytest.mark.timeout(1800)
def test_a_cluster_gives_the_rows_that_this_machine_does(files: Path, tmp_path: Path):
    pytest.importorskip("ray")
    from service.batch.ray_engine import Ray

    job = Job(models=shipped_models(), model="chest-xray")
    here = table(files, job, tmp_path / "here.csv", Local(workers=0, seconds=60))

    there = table(files, job, tmp_path / "there.csv", Ray(workers=1, seconds=60))

    assert [row | {"duration_ms": ""} for row in there.values()] == [
        row | {"duration_ms": ""} for row in here.values()
    ]


def test_a_row_does_not_depend_on_its_neighbours(files: Path, tmp_path: Path):
    job = Job(models=shipped_models(), model="chest-xray", batch=4)
    scored = table(files, job, tmp_path / "all.csv", Local(workers=0, seconds=60))
    alone = tmp_path / "alone"
    alone.mkdir()

    for path in files.iterdir():
        (alone / path.name).symlink_to(path)
        [row] = table(alone, job, tmp_path / "one.csv", Local(workers=0, seconds=60)).values()
        (alone / path.name).unlink()
        assert row | {"duration_ms": ""} == scored[path.name] | {"duration_ms": ""}


def test_a_capture_is_the_file_that_explain_answers_with(serve_here, files, tmp_path: Path):
    client = serve_here(shipped_models())
    job = Job(models=shipped_models(), model="chest-xray", captures=True, force=True)
    captures = tmp_path / "captures"

    rows = table(files, job, tmp_path / "s.csv", Local(workers=0, seconds=60), captures=captures)

    numbers = {name: number for number, name in enumerate(rows, start=1)}
    assert len(list(captures.iterdir())) == 3
    for path in files.glob("*.dcm"):
        answer = client.post(
            "/explain",
            files={"image": path.read_bytes()},
            data={"model": "chest-xray", "force": "true", "output": "dicom"},
        )
        name = f"{numbers[path.name]:06d}-{rows[path.name]['sha256'][:8]}.dcm"
        assert (captures / name).read_bytes() == answer.content


def test_an_overlay_is_the_picture_that_explain_answers_with(serve_here, files, tmp_path: Path):
    client = serve_here(shipped_models())
    labels = ("normal", "viral_pneumonia")
    job = Job(models=shipped_models(), model="chest-xray", overlays=True, draw=labels)
    overlays = tmp_path / "overlays"

    rows = table(files, job, tmp_path / "s.csv", Local(workers=0, seconds=60), overlays=overlays)

    for number, (name, row) in enumerate(rows.items(), start=1):
        for label in labels:
            answer = client.post(
                "/explain",
                files={"image": (files / name).read_bytes()},
                data={"model": "chest-xray", "target": label},
            )
            drawn = overlays / f"{number:06d}-{row['sha256'][:8]}-{label}.png"
            ours = cv2.imread(str(drawn))
            theirs = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
            assert np.array_equal(ours, theirs)


def test_a_film_whose_study_makes_no_sense_is_scored_and_has_no_capture(files, tmp_path: Path):
    folder = tmp_path / "odd"
    folder.mkdir()
    film = make_dicom(make_film(300, 300), **STUDY)
    for name, changes in {
        "no-study.dcm": {"StudyInstanceUID": ""},
        "no-instance.dcm": {"SOPInstanceUID": ""},
        "odd-instance.dcm": {"SOPInstanceUID": "1.2.03"},
    }.items():
        changed = make_dicom(make_film(300, 300), **{**STUDY, **changes})
        changed.file_meta = film.file_meta
        changed.save_as(folder / name)
    job = Job(models=shipped_models(), model="chest-xray", captures=True, overlays=True)
    where = {"captures": tmp_path / "captures", "overlays": tmp_path / "overlays"}

    for _ in range(2):  # and nothing is amiss when it is looked at again
        rows = table(folder, job, tmp_path / "s.csv", Local(workers=0, seconds=60), **where)
        assert {row["status"] for row in rows.values()} == {"ok"}
        assert {row["error_code"] for row in rows.values()} == {"not_captured"}
        assert all(row["error"].startswith("no Secondary Capture: ") for row in rows.values())
        assert not list(where["captures"].iterdir())
        assert len(list(where["overlays"].iterdir())) == 3
