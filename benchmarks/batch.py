"""What a film costs in a run over many, against reading, decoding, inference and writing alone.

    python -m benchmarks.batch [--quick] [--model NAME] [--folder DIR]

Makes 400 uncompressed films and 100 of JPEG 2000, 3000 x 2500 of 12 bits, from 20 contents with a
UID of their own each (about 7 GB, below --folder), and scores them with `care score`. Then the four
parts are measured alone, in one process on one thread. Wall time says how much of the cores was
used; memory is the peak of all processes for 20,000 small pictures against that for 2,000. The last
line says how many times the CPU time of the parts the whole run takes, its start included.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import psutil
from pydicom.uid import UID, JPEG2000Lossless

from benchmarks.film_to_input import film, to_bytes
from benchmarks.measure import Ratio, ratio_table, table
from imaging.cores import available_cores
from imaging.reading import read_image
from models.store import load_one, shipped_models
from service.batch.files import File
from service.batch.job import Job, columns
from service.batch.scorer import Scorer
from service.batch.table import write_table
from service.batch.workers import ONE_THREAD

ROOT = Path(__file__).parent.parent
CONTENTS = 20
COST, WALL, MEMORY = 1.15, 1.18, 1.10  # what a run may take at most, in times the alternatives
INSTANCE = "1.2.826.0.1.3680043.8.498.1%019d"


class Cost(NamedTuple):
    """What a run took: CPU-seconds of all its processes, seconds on the wall, peak megabytes."""

    cpu: float
    wall: float
    memory: float


def write_films(folder: Path, uncompressed: int, compressed: int) -> None:
    """Write films of `CONTENTS` contents; each file has a UID of its own."""
    folder.mkdir()
    dataset = film()
    pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
    for content in range(CONTENTS):
        dataset.PixelData = np.roll(pixels, 37 * content, axis=1).tobytes()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(INSTANCE % 0)
        kinds = {"plain": (uncompressed, to_bytes(dataset))}
        if compressed > content:
            packed = film()
            packed.update(dataset)
            packed.compress(
                JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False
            )
            kinds["packed"] = (compressed, to_bytes(packed))
        for kind, (count, data) in kinds.items():
            for number in range(content, count, CONTENTS):
                uid = INSTANCE % (number + 1 + (kind == "packed") * 10**6)
                named = data[:4096].replace((INSTANCE % 0).encode(), uid.encode()) + data[4096:]
                (folder / f"{kind}-{number:04}.dcm").write_bytes(named)


def write_pictures(folder: Path, count: int) -> None:
    """Write small pictures, each of a content of its own."""
    folder.mkdir()
    for number in range(count):
        picture = np.full((16, 16), 40, np.uint8)
        picture.ravel()[:32] = np.frombuffer(hashlib.sha256(b"%d" % number).digest(), np.uint8)
        cv2.imwrite(str(folder / f"{number:06}.png"), picture)


def score(folder: Path, model: str) -> Cost:
    """`care score` as a person starts it."""
    out = folder.with_suffix(".parquet")
    command = [sys.executable, "-m", "cli", "score", str(folder)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--model", model, "--out", str(out)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,  # it names the table, and a report names no place of a machine
    )
    peaks: dict[int, int] = {}
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        note_peaks(process.pid, peaks)
        time.sleep(0.2)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(used.ru_utime + used.ru_stime, wall, sum(peaks.values()) / 1024)


def note_peaks(pid: int, peaks: dict[int, int]) -> None:
    """Note the most memory that a process and each of its children ever had, in kB."""
    try:
        parent = psutil.Process(pid)
        for one in [parent, *parent.children(recursive=True)]:
            lines = Path(f"/proc/{one.pid}/status").read_text().splitlines()
            found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
            peaks[one.pid] = max([peaks.get(one.pid, 0), *found])
    except (psutil.NoSuchProcess, OSError):
        return  # it has just ended


def parts(films: list[Path], model: str, scratch: Path) -> dict[str, float]:
    """CPU-seconds per film of each part, alone."""
    classifier = load_one(shipped_models(), model)
    fit = classifier.card.preprocessing
    data = [path.read_bytes() for path in films]
    fitted = [fit(read_image(one)) for one in data]
    [row] = Scorer(Job(models=shipped_models(), model=model)).score([File("film", str(films[0]))])
    kinds = columns(classifier.card.labels)

    def read() -> None:
        for path in films:
            hashlib.sha256(path.read_bytes()).hexdigest()

    def decode() -> None:
        for one in data:
            fit(read_image(one))

    def infer() -> None:
        for square, placement in fitted:
            classifier.predictions(classifier.run(square[None]), [placement])

    def write() -> None:
        with write_table(scratch, kinds, ".parquet") as add:
            for _ in films:
                add(row)

    return {one.__name__: measured(one) / len(films) for one in (read, decode, infer, write)}


def measured(work: Callable[[], None], rounds: int = 3) -> float:
    """CPU-seconds, the middle of some rounds after one that warms up."""
    taken = []
    for _ in range(rounds + 1):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return sorted(taken[1:])[rounds // 2]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the files")
    parser.add_argument("--model", default="chest-xray")
    parser.add_argument("--folder", type=Path, help="where to make the films; 7 GB")
    arguments = parser.parse_args()
    if not ONE_THREAD.items() <= os.environ.items():  # libraries look at it when they are loaded
        command = [sys.executable, "-m", "benchmarks.batch", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | ONE_THREAD)
    plain, packed, few, many = (40, 10, 200, 2000) if arguments.quick else (400, 100, 2000, 20_000)
    cores = available_cores()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        here = Path(place)
        write_films(here / "films", plain, packed)
        run = score(here / "films", arguments.model)
        total = 0.0
        print(f"CPU time per film, {plain} uncompressed and {packed} of JPEG 2000")
        for kind, count in (("plain", plain), ("packed", packed)):
            films = sorted((here / "films").glob(f"{kind}-*"))[:CONTENTS]
            alone = parts(films, arguments.model, here / "scratch")
            total += count * sum(alone.values())
            for part, seconds in alone.items():
                print(f"  {kind:<7}{part:<27}{1000 * seconds:>9.2f} ms")
        small = {}
        for count in (few, many):
            write_pictures(here / f"small-{count}", count)
            small[count] = score(here / f"small-{count}", arguments.model)
    each = 1000 / (plain + packed)
    print(f"  the parts alone, on average       {each * total:>9.2f} ms")
    print(f"  care score, all processes         {each * run.cpu:>9.2f} ms")
    print(
        f"wall time: {run.wall:.1f} s; the parts on {cores} cores are {total / cores:.1f} s, ",
        end="",
    )
    print(f"{100 * total / cores / run.wall:.0f} % of it")
    growth = [
        (count, f"{cost.wall:.1f}", f"{count / cost.wall:.0f}", f"{cost.memory:.0f}")
        for count, cost in small.items()
    ]
    head = ["small pictures", "seconds", "pictures/s", "peak memory of all processes, MB"]
    found = (
        Ratio(
            "care score, CPU time of a film",
            "reading, decoding, inference and writing alone",
            run.cpu / total,
            "the cost",
            at_most=COST,
        ),
        Ratio(
            "care score, wall time",
            f"the same spread over {cores} cores",
            run.wall * cores / total,
            "the time",
            at_most=WALL,
        ),
        Ratio(
            f"care score, peak memory for {many} small pictures",
            f"for {few}",
            small[many].memory / small[few].memory,
            "as much",
            at_most=MEMORY,
        ),
    )
    print(table(head, growth), ratio_table(found), sep="\n\n")
    print(f"ratio: {run.cpu / total:.2f}")


if __name__ == "__main__":
    main()
