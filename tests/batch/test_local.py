"""The engine of one machine: what a file does to a worker costs its own row and no other."""

import dataclasses
from pathlib import Path

import pytest

from service.batch.files import File
from service.batch.job import Job, Row
from service.batch.local import Local
from service.batch.scorer import Scorer
from tests.batch.conftest import write_picture
from tests.batch.traps import CRASH, HANG, KILLED, trapped

TRAPS = {"crash": CRASH, "hang": HANG, "killed": KILLED}
CODES = {"crash": "crashed", "hang": "timeout", "killed": "crashed"}


@pytest.fixture
def files(tmp_path: Path) -> list[File]:
    """Twelve pictures with traps among them."""
    found = []
    for number in range(12):
        path = tmp_path / f"{number:02}.png"
        write_picture(path, bright=bool(number % 3))
        found.append(path)
    for place, (name, content) in enumerate(TRAPS.items()):
        path = tmp_path / name
        path.write_bytes(content)
        found.insert(2 + 3 * place, path)
    return [File(path.name, str(path)) for path in found]


def rows(engine: Local, files: list[File], job: Job) -> dict[str, Row]:
    return {file.name: row for file, row in engine(files, job, None)}


@pytest.mark.parametrize("central", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_one_bad_file_costs_exactly_one_row(files: list[File], job: Job, batch: int, central: bool):
    job = dataclasses.replace(job, batch=batch)
    good = [file for file in files if file.name not in TRAPS]
    expected = rows(Local(workers=0, seconds=60), good, job)

    found = rows(trapped(workers=2, seconds=1.5, central=central), files, job)

    assert found.keys() == {file.name for file in files}
    for name, row in found.items():
        if name in TRAPS:
            assert (row["status"], row["error_code"]) == ("error", CODES[name])
            assert row["error"]
        else:
            assert row | {"duration_ms": 0} == expected[name] | {"duration_ms": 0}


def test_the_model_sees_batches_of_one_size_only(
    files: list[File], job: Job, monkeypatch: pytest.MonkeyPatch
):
    from models.classifier import Classifier

    sizes = []
    run = Classifier.run
    monkeypatch.setattr(
        Classifier, "run", lambda self, images: sizes.append(len(images)) or run(self, images)
    )
    good = [file for file in files if file.name not in TRAPS][:9]
    job = dataclasses.replace(job, batch=4)

    rows(Local(workers=0, seconds=60), good, job)
    rows(Local(workers=1, seconds=60, central=True), good, job)

    assert sizes == [4] * 6


def test_the_scorer_of_a_central_engine_loads_no_model_in_its_workers(
    files: list[File], job: Job, monkeypatch: pytest.MonkeyPatch
):
    (job.models / "square" / "model.onnx").unlink()
    scorer = Scorer(job)

    assert scorer.decode(files[0]).square.shape == (224, 224, 3)  # type: ignore[union-attr]
