"""How the service does with more clients at once, against what one would write instead.

    python -m benchmarks.clients [--quick]

The servers of benchmarks.serving explain full films for 1 to 16 clients, each of which keeps its
connection and asks again as soon as it is answered; clients and server share the cores. The last
line says how many times as many films a second CARE explains for the most clients.
"""

import argparse
from statistics import median

from benchmarks.film_to_input import film, to_bytes
from benchmarks.measure import Ratio, ratio_table, table
from benchmarks.serving import CARE, OTHER, Answered, serving

CLIENTS = (1, 2, 4, 8, 16)


def middle(answered: list[Answered]) -> Answered:
    """The middle of some rounds, of each figure."""
    return Answered(*map(median, zip(*answered, strict=True)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    rounds, requests = (1, 16) if parser.parse_args().quick else (3, 48)
    data = to_bytes(film())
    rows, found = [], []
    with (
        serving(CARE, "/readyz", model="chest-xray", force="true") as care,
        serving(OTHER, "/openapi.json") as other,
    ):
        for server in (care, other):
            server.answered("/explain", data, 4, 2)  # warms up
        for clients in CLIENTS:
            taken: list[tuple[Answered, Answered]] = []
            for _ in range(rounds):
                ours = care.answered("/explain", data, requests, clients)
                taken.append((ours, other.answered("/explain", data, requests, clients)))
            ours, theirs = (middle(list(answered)) for answered in zip(*taken, strict=True))
            rows.append(
                [
                    clients,
                    *(f"{of.rate:.1f}" for of in (ours, theirs)),
                    *(f"{of.cost:.1f}" for of in (ours, theirs)),
                    f"{ours.rate / theirs.rate:.1f}",
                ]
            )
            found.append(
                Ratio(
                    f"films explained per second, clients: {clients}",
                    "FastAPI + torch + pytorch-grad-cam",
                    ours.rate / theirs.rate,
                    "as many",
                )
            )
    head = ["clients", "CARE, films/s", "FastAPI + torch, films/s"]
    head += ["CARE, CPU ms per film", "FastAPI + torch, CPU ms per film", "times as many films"]
    print(table(head, rows), ratio_table([found[0], found[-1]]), sep="\n\n")
    print(f"ratio: {found[-1].times:.1f}")


if __name__ == "__main__":
    main()
