"""kill -9 at any moment, ten times in a row: the table is that of an undisturbed run."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from tests import patience
from tests.batch.conftest import read_rows, timeless, write_picture
from tests.batch.traps import CRASH, HANG, KILLED
from tests.factories import make_dicom, make_film

KILLS = 10
ROOT = Path(__file__).parents[2]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Good files, and bad ones of every kind among them."""
    folder = tmp_path / "broken"
    for number in range(60):
        write_picture(folder / f"s{number % 7}" / f"{number:02}.png", bright=True, size=40 + number)
    film = make_dicom(make_film(), PatientName="Canary^Patient")
    film.save_as(folder / "film.dcm", enforce_file_format=True)
    whole = (folder / "film.dcm").read_bytes()
    contents = {
        "truncated.dcm": whole[: len(whole) // 2],
        "header-only.dcm": whole[:200],
        "garbage": random.Random(0).randbytes(5000),
        "zeros": bytes(5000),
        "empty": b"",
        "wrong-magic.png": b"\x89PNG\r\n\x1a\n" + bytes(50),
        "text.txt": b"no picture",
        "s1/crash": CRASH,
        "s2/killed": KILLED,
        "s3/hang": HANG,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder)
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "closed").mkdir()
    (folder / "closed" / "film.dcm").write_bytes(whole)
    if os.geteuid() != 0:  # nothing is closed to root
        (folder / "closed").chmod(0)
    return folder


def command(folder: Path, models: Path, out: Path) -> subprocess.Popen:
    """Score the folder in a process of its own, slowly."""
    arguments = [folder, models, out, out.with_name(f"{out.stem}-overlays")]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.batch.traps", *map(str, arguments)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_killed_ten_times_gives_the_table_of_an_undisturbed_run(
    broken: Path, models: Path, tmp_path: Path
):
    undisturbed, out = tmp_path / "undisturbed.csv", tmp_path / "killed.csv"
    started = time.monotonic()
    with command(broken, models, undisturbed) as run:
        assert run.wait() == 0, run.stderr and run.stderr.read()
    whole = time.monotonic() - started
    moments = random.Random(5)
    left = []

    for _ in range(KILLS):
        with command(broken, models, out) as run:
            time.sleep(moments.uniform(0.1, 0.6) * whole)
            left += psutil.Process(run.pid).children() if run.poll() is None else []
            run.send_signal(signal.SIGKILL)
        page = out.with_suffix(".html")
        assert not page.exists() or page.read_text().endswith("</html>")
    with command(broken, models, out) as run:
        assert run.wait() == 0, run.stderr and run.stderr.read()

    assert timeless(out) == timeless(undisturbed)
    codes = {row["file"]: row["error_code"] for row in read_rows(out) if row["status"] == "error"}
    assert codes["s1/crash"] == codes["s2/killed"] == "crashed"
    assert codes["s3/hang"] == "timeout"
    assert codes["pipe"] == codes["itself"] == codes["gone"] == "inaccessible"
    assert len(codes) >= 13
    pictures, expected = (
        {path.name: cv2.imread(str(path)) for path in tmp_path.glob(f"{stem}-overlays/*")}
        for stem in ("killed", "undisturbed")
    )
    assert pictures.keys() == expected.keys()
    assert all(np.array_equal(pictures[name], expected[name]) for name in pictures)
    assert len(pictures) >= 61
    assert out.with_suffix(".html").read_text().count("data:image/webp") == 10
    assert not list(tmp_path.glob(".*"))
    _, alive = psutil.wait_procs(left, timeout=patience.SECONDS)
    assert not alive


def test_a_run_interrupted_from_the_keyboard_says_how_to_go_on(
    broken: Path, models: Path, tmp_path: Path
):
    out = tmp_path / "scores.csv"
    shutil.rmtree(broken / "s3")
    picture = (broken / "s0" / "00.png").read_bytes()
    for number in range(3000):  # more than are done before it hears of it
        (broken / f"{number}.png").write_bytes(picture + str(number).encode())
    arguments = ["score", broken, "--models", models, "--model", "square", "--out", out]
    code = "from cli.main import app; app()"
    run = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments), "--workers", "1"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # whoever runs the tests in the background has it ignored, and so would this process
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    while not list(tmp_path.glob(".*/journal")):
        assert run.poll() is None
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGINT)
    _, said = run.communicate()

    assert run.returncode == 130, said
    assert said.splitlines()[-1] == (
        "care: stopped; what is done is kept, and the same command goes on from there"
    )
    assert "Traceback" not in said
    assert not out.exists()
