"""Memory that is free goes back to the system, also where something lies behind it."""

import os
import subprocess
import sys

import pytest

from service.server.allocator import ALLOCATOR, LARGE, Keeper

SCRIPT = """
import os
from service.server.allocator import LARGE, Keeper, give_back

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

kept, films = [], []
for _ in range(40):
    films.append(b"1" * 5_000_000)
    kept.append(b"1" * 5_000)
before = held()
del films
with_gaps = held()
HOW
print(before, with_gaps, held())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is the GNU C library's")
@pytest.mark.parametrize(
    "how",
    [
        "give_back()",
        "keeper = Keeper(every=3); [keeper.note(LARGE) for _ in range(3)]",
    ],
)
def test_gaps_between_films_are_given_back(how: str):
    asked = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("HOW", how)],
        env=os.environ | ALLOCATOR,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    before, with_gaps, after = map(float, asked.stdout.split())
    assert with_gaps > before - 50  # what lies behind keeps the gaps
    assert after < before - 150


def test_memory_is_given_back_once_in_so_many_large_pictures(monkeypatch: pytest.MonkeyPatch):
    given = []
    monkeypatch.setattr("service.server.allocator.give_back", lambda: given.append(len(noted)))
    keeper, noted = Keeper(every=3), []
    for number in range(7):
        noted.append(number)
        keeper.note(224 * 224)
        keeper.note(LARGE)
    assert given == [3, 6]
