"""The engine of several machines: several nodes of Ray on this one, some of which do not last."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest

from models.errors import ModelError
from service.batch.errors import BatchError
from service.batch.files import File
from service.batch.job import Job, Row
from service.batch.local import Local
from tests.batch.conftest import read_rows, score, timeless, write_picture
from tests.batch.traps import CRASH, HANG, make_other, make_trapped, trapped

if find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)

from service.batch.ray_engine import Ray

pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).parents[2]
TRAPS = {"crash": (CRASH, "crashed"), "hang": (HANG, "timeout")}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster whose first node, the driver's, is joined by those that tests add."""
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="care-", dir="/tmp")  # sockets' paths have to be short
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_TMPDIR", folder)
        (Path(folder) / "ray").mkdir()
        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 2, "include_dashboard": False},
        )
        yield made
        made.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def files(tmp_path: Path) -> list[File]:
    """Pictures with traps among them."""
    found = []
    for number in range(24):
        path = tmp_path / f"{number:02}.png"
        write_picture(path, bright=bool(number % 3))
        found.append(path)
    for where, (name, (content, _)) in enumerate(TRAPS.items()):
        path = tmp_path / name
        path.write_bytes(content)
        found.insert(3 + 9 * where, path)
    return [File(path.name, str(path)) for path in found]


def on(cluster: Any, *, slow: float = 0, **options: Any) -> Ray:
    made = {"seconds": 5, "gpus": 0} | options  # of which good files need a part
    return Ray(address=cluster.address, make=partial(make_trapped, slow), **made)


def without_time(rows: dict[str, Row]) -> dict[str, Row]:
    return {name: row | {"duration_ms": 0} for name, row in rows.items()}


def rows(engine: Any, files: list[File], job: Job) -> dict[str, Row]:
    pairs = [(file.name, row) for file, row in engine(files, job, None)]
    assert len(pairs) == len(files)
    return without_time(dict(pairs))


@pytest.mark.parametrize(("central", "batch"), [(False, 1), (True, 4)])
def test_its_rows_are_those_of_one_machine_and_a_bad_file_costs_its_own(
    cluster: Any, files: list[File], job: Job, central: bool, batch: int
):
    job = dataclasses.replace(job, batch=batch)
    good = [file for file in files if file.name not in TRAPS]

    found = rows(on(cluster, central=central), files, job)

    bad = {name: found.pop(name) for name in TRAPS}
    assert found == rows(Local(workers=0, seconds=60), good, job)
    assert {name: row["error_code"] for name, row in bad.items()} == {
        name: code for name, (_, code) in TRAPS.items()
    }


def test_a_node_that_is_killed_loses_nothing(cluster: Any, files: list[File], job: Job):
    node = cluster.add_node(num_cpus=2)
    files = [file for file in files if file.name not in TRAPS]
    expected = rows(Local(workers=0, seconds=60), files, job)

    scored = on(cluster, slow=0.2, seconds=60)(files, job, None)
    found = dict(islice(scored, 3))
    cluster.remove_node(node, allow_graceful=False)
    found |= dict(scored)

    assert without_time({file.name: row for file, row in found.items()}) == expected


@pytest.mark.long
def test_a_node_that_is_killed_with_the_model_in_its_memory_loses_nothing(
    cluster: Any, files: list[File], job: Job
):
    nodes = [cluster.add_node(num_cpus=1, num_gpus=1) for _ in range(2)]
    files = [file for file in files if file.name not in TRAPS]
    expected = rows(Local(workers=0, seconds=60), files, job)

    scored = on(cluster, slow=0.2, seconds=60, central=True, gpus=1)(files, job, None)
    found = dict(islice(scored, 3))
    cluster.remove_node(nodes[0], allow_graceful=False)
    found |= dict(scored)
    cluster.remove_node(nodes[1])

    assert without_time({file.name: row for file, row in found.items()}) == expected


def test_a_content_whose_row_is_at_hand_is_not_scored_again(
    cluster: Any, files: list[File], job: Job, tmp_path: Path, out: Path
):
    folder = tmp_path / "films"
    folder.mkdir()
    for file in files[:3]:
        shutil.copy(file.path, folder)
    score(folder, job, out)
    before = out.read_bytes()

    score(folder, job, out, on(cluster))  # durations too: no row is a new one

    assert out.read_bytes() == before


def test_what_nobody_can_score_ends_the_run_in_a_line(cluster: Any, files: list[File], job: Job):
    with pytest.raises(BatchError, match="no Ray cluster at"):
        rows(Ray(seconds=3, address="127.0.0.1:1"), files[:2], job)
    with pytest.raises(BatchError, match="no node of the Ray cluster has a GPU"):
        rows(on(cluster, central=True, gpus=1), files[:2], job)
    (job.models / "square" / "model.onnx").write_bytes(b"")
    for central in (False, True):
        with pytest.raises(ModelError):
            rows(on(cluster, central=central), files[:2], job)


def test_a_node_with_another_model_is_told_from_the_others(
    cluster: Any, files: list[File], job: Job
):
    with pytest.raises(BatchError, match="a node of the cluster has another square"):
        rows(dataclasses.replace(on(cluster, central=True), make=make_other), files[:2], job)


COMMAND = """
import sys
from pathlib import Path
from functools import partial
from service.batch.job import Job
from service.batch.outputs import Outputs
from service.batch.ray_engine import Ray
from service.batch.run import score_sources
from tests.batch.traps import make_trapped
source, models, out = sys.argv[1:]
engine = Ray(seconds=3, workers=2, make=partial(make_trapped, 0.1))
score_sources([source], Job(models=Path(models), model="square"), Outputs(table=Path(out)), engine)
"""


@pytest.mark.long
def test_a_driver_that_is_killed_goes_on_and_leaves_nothing_running(
    files: list[File], job: Job, tmp_path: Path, out: Path
):
    folder = tmp_path / "films"
    folder.mkdir()
    for file in files:
        shutil.move(file.path, folder)
    undisturbed = tmp_path / "undisturbed.csv"
    score(folder, job, undisturbed, trapped(workers=2, seconds=3))
    arguments = [sys.executable, "-c", COMMAND, str(folder), str(job.models), str(out)]
    journal = tmp_path / f".{out.name}.unfinished" / "journal"
    left: list[psutil.Process] = []
    scratch = tempfile.mkdtemp(prefix="care-", dir="/tmp")  # where a killed driver leaves its files
    environment = os.environ | {"PYTHONPATH": ".", "TMPDIR": scratch}

    for size in (30_000, 45_000):
        with subprocess.Popen(arguments, cwd=ROOT, env=environment) as run:
            while run.poll() is None and not (journal.exists() and grown(journal, size)):
                time.sleep(0.1)
            left += psutil.Process(run.pid).children(recursive=True) if run.poll() is None else []
            run.send_signal(signal.SIGKILL)
    subprocess.run(arguments, cwd=ROOT, env=environment, check=True)

    assert timeless(out) == timeless(undisturbed)
    assert len(read_rows(out)) == len(files)
    _, alive = psutil.wait_procs(left, timeout=60)
    shutil.rmtree(scratch)
    assert not alive


def grown(journal: Path, size: int) -> bool:
    return journal.stat().st_size > size
