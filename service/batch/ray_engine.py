"""The engine of several machines: a Ray cluster, through Ray Data.

Files are decoded by tasks on its CPUs. Where a GPU runs the model, actors that have it in memory
sit beside them, each on a share of one; where a CPU does, whoever decodes a film scores it too, as
on one machine. What is done is kept by the run that calls this, so no node is needed to go on.
"""

import logging
import math
import os
import secrets
import socket
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow

# Read when Ray is imported. Else a thread of it that outlives a cluster would start another.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

import ray
import ray.data
import ray.exceptions
from ray.util.annotations import RayDeprecationWarning

from imaging.cores import available_cores
from models.store import load_card
from service.batch import ray_tasks
from service.batch.errors import GOES_ON, BatchError
from service.batch.files import File
from service.batch.job import Job, digest, error_row
from service.batch.local import Scored
from service.batch.scorer import Known, Scorer

SHARD = 20_000
"""Files listed in one object of the cluster's store: some megabytes, which it can put on a disk."""

MOST_IN_TASK, TASKS_PER_CPU, MOST_TASKS = 64, 16, 50_000
"""Files of one task: so few that all CPUs end together, so many that the driver keeps up."""

CONNECT_SECONDS = 10

LOST_TASKS, LOST_ACTORS = 100, 10
"""How many may be lost, actors in a row, before the cluster is taken to be no longer there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ray:
    """How to score files on a Ray cluster.

    Attributes:
        seconds: How long one file may take.
        address: Of the cluster; None starts one on this machine and ends it.
        workers: Most CPUs to use; None uses all there are.
        gpus: Share of a GPU that each actor has.
        central: Whether actors run the model, and tasks only decode.
        make: Makes the scorer.
    """

    seconds: float
    address: str | None = None
    workers: int | None = None
    gpus: float = 1
    central: bool = False
    make: Callable[[Job, Known | None], Scorer] = Scorer

    def __call__(
        self, files: Iterable[File], job: Job, known: Known | None
    ) -> Generator[Scored, None, None]:
        """Score files.

        Args:
            files: What to score; `File.known` says which content has its row already.
            job: How. Its folders are the same on all nodes.
            known: Not asked: the one who answers is far away.

        Raises:
            ModelError: The model cannot be used.
            BatchError: There is no such cluster, it has ended, or its nodes differ.
            OSError: What was drawn cannot be written.
        """
        card = load_card(job.models, job.model)
        stamps = {"model_sha256": card.sha256, "options_sha256": digest(job.options(card))}
        with _cluster(self.address, self.workers), closing(self._rounds(files, job)) as rows:
            for file, row in rows:
                if any(row.get(name, stamp) != stamp for name, stamp in stamps.items()):
                    raise BatchError(
                        f"a node of the cluster has another {job.model}, or another version of "
                        f"this program; {GOES_ON}"
                    )
                yield file, row

    def _rounds(self, files: Iterable[File], job: Job) -> Generator[Scored, None, None]:
        """Score files; those that were lost with a node's actor, again, and one by one."""
        shards, total = _put(files)
        given = bytearray(total)
        for alone in (False, True):
            size = 1 if alone else self._files_of_task(total, job.batch)
            with closing(self._blocks(shards, given, size, job)) as blocks:
                for number, file, result in chain.from_iterable(map(ray_tasks.results, blocks)):
                    if number == ray_tasks.FAILED:
                        raise result
                    if not given[number]:
                        given[number] = True
                        yield file, result
            if all(given):
                return
        for part in shards:
            for file in ray_tasks.missing(ray.get(part), given):
                yield file, error_row(file.name, "crashed", "lost twice, with the node that had it")

    def _blocks(
        self, shards: list[Any], given: bytearray, size: int, job: Job
    ) -> Generator[pyarrow.Table, None, None]:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_errored_blocks = LOST_TASKS
        context.max_consecutive_actor_init_deaths = LOST_ACTORS
        # a block of files that all hang is progress
        context.execution_no_progress_timeout_s = 600 + 2 * self.seconds * size
        tasks = [
            pyarrow.table({"part": [number // SHARD], "first": [number % SHARD], "size": [some]})
            for number, some in _stretches(given, size)
        ]
        rows = ray.data.from_arrow(tasks).map_batches(
            partial(
                ray_tasks.work,
                shards=shards,
                make=self.make,
                job=job,
                seconds=self.seconds,
                decodes=self.central,
            ),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
            compute=ray.data.TaskPoolStrategy(self.workers),
        )
        if self.central:
            with warnings.catch_warnings():  # of max_restarts, which nothing replaces yet
                warnings.simplefilter("ignore", RayDeprecationWarning)
                rows = rows.map_batches(
                    ray_tasks.Infer,
                    fn_constructor_kwargs={"make": self.make, "job": job},
                    batch_size=size,  # Ray asks for one where there are GPUs
                    batch_format="pyarrow",
                    num_cpus=0,
                    num_gpus=self.gpus,
                    compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self._actors()),
                    # One that goes down with its node is replaced where there is room; what it had
                    # is lost, and comes again. Restarted, it would wait for its node to come back.
                    max_restarts=0,
                )
        try:
            # Nothing is fetched ahead: the thread that would outlives a run that is left early, and
            # Ray ends a process in which anyone asks it for something after its end.
            yield from rows.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            )
        except ray.exceptions.RayError as error:
            raise BatchError(
                f"the Ray cluster failed: {type(error).__name__}; {GOES_ON}"
            ) from error

    def _actors(self) -> int:
        if not self.gpus:
            return 1
        actors = math.floor(ray.cluster_resources().get("GPU", 0) / self.gpus)
        if not actors:
            raise BatchError("no node of the Ray cluster has a GPU to give")
        return actors

    def _files_of_task(self, total: int, batch: int) -> int:
        cpus = self.workers or int(ray.cluster_resources().get("CPU", 1))
        size = min(MOST_IN_TASK, total // (TASKS_PER_CPU * cpus))
        return batch * math.ceil(max(1, size, total / MOST_TASKS) / batch)


def _put(files: Iterable[File]) -> tuple[list[Any], int]:
    """Put the list of files into the cluster's store; with how many there are."""
    shards, total, files = [], 0, iter(files)
    while some := list(islice(files, SHARD)):
        shards.append(ray.put(ray_tasks.shard(total, some)))
        total += len(some)
    return shards, total


def _stretches(given: bytearray, size: int) -> Iterator[tuple[int, int]]:
    """Where files begin that have no row, and how many follow; none crosses a shard."""
    number = given.find(False)
    while number != -1:
        end = min(number + size, (number // SHARD + 1) * SHARD, len(given))
        found = given.find(True, number, end)
        end = end if found == -1 else found
        yield number, end - number
        number = given.find(False, end)


@contextmanager
def _cluster(address: str | None, workers: int | None) -> Iterator[None]:
    """Join a cluster, or have one of this machine's own; nobody is told of it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    quiet: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    try:
        if address:
            _join(address, quiet)
            yield
        else:
            # Ray listens on all addresses of the machine: who does not know this, is not heard.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex())
            # Its files name those that are scored, and hold pictures if memory runs out.
            with tempfile.TemporaryDirectory(prefix="care-", ignore_cleanup_errors=True) as folder:
                ray.init(
                    "local",
                    num_cpus=workers or available_cores(),
                    include_dashboard=False,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(Path(folder).resolve()),
                    **quiet,
                )
                yield
                ray.shutdown()
    finally:
        ray.shutdown()


def _join(address: str, options: dict[str, Any]) -> None:
    """Join a cluster of which this machine is a node."""
    try:
        if address != "auto":  # Ray itself would wait for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        ray.init(address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise BatchError(
            f"no Ray cluster at {address}; expected HOST:PORT, or auto, and this machine one of "
            "its nodes"
        ) from error
