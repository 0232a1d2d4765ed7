"""Many requests at once, for a long time: every answer is compared, and memory must not grow.

    python -m tests.soak --requests 20000 --clients 8 32 --report benchmarks/reports/soak.md

Starts one service on this machine, asks it that many mixed requests with each number of clients,
some of them bad, and ends it. Exit code 1 if an answer was wrong or something grew.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from models.store import shipped_models
from tests import patience
from tests.server import Server, in_this_process, started
from tests.soak.clients import ask_all
from tests.soak.questions import Question, bad, chosen, good
from tests.soak.report import Run, written
from tests.soak.watch import at_rest, grown, held


def soak(server: Server, questions: Iterator[Question], *, requests: int, clients: int) -> Run:
    """Ask, and watch meanwhile."""
    before = at_rest(server, 0)
    samples = []
    start = time.monotonic()
    for tally in ask_all(server.url, questions, requests, clients):
        samples.append(held(server, tally.asked))
    seconds = time.monotonic() - start
    after = at_rest(server, tally.asked)
    problems = [*tally.wrong, *grown(samples), *left_over(server)]
    if tally.asked < requests:
        problems.append(f"only {tally.asked} of {requests} requests came to an end")
    return Run(clients, tally, seconds, before, samples, after, problems)


def left_over(server: Server) -> list[str]:
    """What a server at rest should not show."""
    nothing = re.compile(r'care_(waiting|working|errors_total{code="internal_error"}) (?!0\.0)')
    metrics = patience.get(f"{server.url}/metrics").text.splitlines()
    problems = [line for line in metrics if nothing.match(line)]
    return problems + (["its log has a traceback"] if '"traceback"' in server.log else [])


def main() -> int:
    """Read the command line, run, and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000, help="for each number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--bad", type=float, default=0.02, help="share of bad requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="where to write the report, in Markdown")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends too
    models = shipped_models()
    os.environ["CARE_MODELS"] = str(models)
    asked, wrong = good(in_this_process(), models), bad()
    with tempfile.TemporaryDirectory() as folder, started(models, Path(folder)) as server:
        runs = [
            soak(
                server,
                chosen(asked, wrong, arguments.bad, arguments.seed + clients),
                requests=arguments.requests,
                clients=clients,
            )
            for clients in arguments.clients
        ]
    report = written(runs, " ".join(["python -m tests.soak", *sys.argv[1:]]))
    print(report)
    if arguments.report:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(report, encoding="utf-8")
    return any(run.problems for run in runs)


if __name__ == "__main__":
    sys.exit(main())
