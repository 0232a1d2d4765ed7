"""What a Ray cluster costs against the local engine, and what a second worker gains.

    python -m benchmarks.cluster [--quick] [--films N] [--model NAME] [--folder DIR]

Scores the films of benchmarks.batch, a fifth of them JPEG 2000, with each engine on one worker and
on two. The rate is that of the films behind the first tenth, so that starting counts apart: a run
of hours starts once. CPU time is that of all processes, Ray's own included. The last line says how
many times the CPU time of the local engine a film takes on Ray, with as many workers.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.batch import write_films
from benchmarks.measure import Ratio, ratio_table, table
from imaging.cores import available_cores
from models.store import shipped_models
from service.batch.files import File
from service.batch.job import Job
from service.batch.local import Local
from service.batch.scorer import Engine
from service.batch.workers import ONE_THREAD

ROOT = Path(__file__).parent.parent
WARM = 0.1
"""Share of the films that come before the rate is measured."""


class Cost(NamedTuple):
    """What a run took.

    Attributes:
        start: Seconds until the first rows were there.
        rate: Films per second after that.
        cpu: CPU-seconds per film, of all processes, the start not counted.
    """

    start: float
    rate: float
    cpu: float


def engine(name: str, workers: int) -> Engine:
    """One of the two."""
    if name == "local":
        return Local(workers=workers, seconds=120)
    from service.batch.ray_engine import Ray

    return Ray(workers=workers, seconds=120)


def measure(name: str, workers: int, folder: Path, model: str) -> Cost:
    """Score all films in this process and those it starts."""
    films = [File(path.name, str(path)) for path in sorted(folder.iterdir())]
    random.Random(0).shuffle(films)  # those of JPEG 2000 among the others
    warm, started = max(1, round(WARM * len(films))), time.perf_counter()
    used, first = 0.0, 0.0
    for done, _ in enumerate(engine(name, workers)(films, job(model), None), start=1):
        if done == warm:
            first, used = time.perf_counter(), cpu_seconds()
        if done == len(films):
            last, used = time.perf_counter(), cpu_seconds() - used
    rest = len(films) - warm
    return Cost(first - started, rest / (last - first), used / rest)


def job(model: str) -> Job:
    """What is done with each film."""
    return Job(models=shipped_models(), model=model)


def cpu_seconds() -> float:
    """What this process and all that it started have used; those that have ended, if waited for."""
    me = psutil.Process()
    total = 0.0
    for one in [me, *me.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="40 films")
    parser.add_argument("--films", type=int, help="200 if left out")
    parser.add_argument("--model", default="chest-xray")
    parser.add_argument("--folder", type=Path, help="where to make the films; 15 MB each")
    parser.add_argument(
        "--one", nargs=3, metavar=("ENGINE", "WORKERS", "FILMS"), help="measure one"
    )
    arguments = parser.parse_args()
    if arguments.one:
        name, workers, films = arguments.one
        print(json.dumps(measure(name, int(workers), Path(films), arguments.model)))
        return
    count = arguments.films or (40 if arguments.quick else 200)
    packed = count // 5
    costs: dict[tuple[str, int], Cost] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        films = Path(place) / "films"
        write_films(films, count - packed, packed)
        print(f"{count} films, {packed} of JPEG 2000; {available_cores()} cores")
        for workers in (1, 2):
            for name in ("local", "ray"):
                command = [sys.executable, "-m", "benchmarks.cluster", "--model", arguments.model]
                said = subprocess.run(
                    [*command, "--one", name, str(workers), str(films)],
                    cwd=ROOT,
                    env=os.environ | ONE_THREAD,
                    stdout=subprocess.PIPE,
                    check=True,
                ).stdout
                costs[name, workers] = cost = Cost(*json.loads(said))
                print(
                    f"  {name:<6}{workers} workers: {cost.rate:>6.2f} films/s, "
                    f"{1000 * cost.cpu:>7.1f} ms CPU per film, {cost.start:>5.1f} s to start"
                )
    found = [
        Ratio(
            f"engine {name}, films per second of 2 workers",
            "1 worker",
            costs[name, 2].rate / costs[name, 1].rate,
            "as many",
        )
        for name in ("local", "ray")
    ]
    found += [
        Ratio(
            f"engine ray, CPU time of a film, workers: {workers}",
            "engine local",
            costs["ray", workers].cpu / costs["local", workers].cpu,
            "the cost",
        )
        for workers in (1, 2)
    ]
    rows = [
        (name, workers, f"{cost.rate:.2f}", f"{1000 * cost.cpu:.1f}", f"{cost.start:.1f}")
        for (name, workers), cost in costs.items()
    ]
    head = ["engine", "workers", "films/s", "CPU ms per film", "seconds to start"]
    print(table(head, rows), ratio_table(found), sep="\n\n")
    print(f"ratio: {found[-1].times:.2f}")


if __name__ == "__main__":
    main()
