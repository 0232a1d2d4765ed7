"""What the process keeps of memory."""

import platform
import subprocess
import sys

import pytest

HEAPS = """
import re, threading
from pathlib import Path
from service.memory import share_heaps

{before}
gathered = threading.Barrier(13)

def allocate():
    kept = [bytearray(50_000) for _ in range(100)]
    gathered.wait()
    gathered.wait()

for _ in range(12):
    threading.Thread(target=allocate).start()
gathered.wait()
# glibc aligns each heap of threads to 64 MB
maps = Path("/proc/self/maps").read_text()
starts = re.findall("^([0-9a-f]+)-.* rw-p 00000000 00:00 0 *$", maps, re.MULTILINE)
print(sum(int(start, 16) % (64 << 20) == 0 for start in starts))
gathered.wait()
"""


def heaps(before: str) -> int:
    """How many heaps twelve threads of a fresh process allocate from, beside the first one."""
    code = HEAPS.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has them")
def test_threads_share_heaps():
    assert heaps("pass") > 2
    assert heaps("share_heaps()") <= 2
