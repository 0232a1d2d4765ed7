"""Memory does not grow with the number of files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imaging.overlay import encode

ROOT = Path(__file__).parents[2]

SCRIPT = """
import resource, sys
from pathlib import Path
from service.batch.job import Job
from service.batch.local import Local
from service.batch.outputs import Outputs
from service.batch.run import score_sources
if __name__ == "__main__":
    folder, models, out = map(Path, sys.argv[1:])
    job = Job(models=models, model="square")
    score_sources([str(folder)], job, Outputs(table=out), Local(workers=1, seconds=60))
    for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        print(resource.getrusage(whose).ru_maxrss)
"""


@pytest.mark.parametrize(
    ("few", "suffix"),
    [
        (150, ".parquet"),
        pytest.param(2000, ".parquet", marks=pytest.mark.long),
        pytest.param(2000, ".csv", marks=pytest.mark.long),
    ],
)
def test_ten_times_as_many_files_need_no_more_memory(
    models: Path, tmp_path: Path, few: int, suffix: str
):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    picture = encode(np.zeros((8, 8), np.uint8))
    peaks = []

    for count in (few, 10 * few):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:06}.png").write_bytes(picture)
        done = subprocess.run(
            [sys.executable, script, folder, models, tmp_path / f"{count}{suffix}"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            check=True,
        )
        peaks.append([int(line) for line in done.stdout.split()])

    for fewer, more in zip(*peaks, strict=True):
        assert more <= 1.1 * fewer
