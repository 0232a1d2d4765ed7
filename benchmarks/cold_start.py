"""How long it takes until the service may be asked, and until a network is loaded.

    python -m benchmarks.cold_start [--quick]

Seconds on the wall, in turn, files in the page cache: `care serve` until /readyz answers 200, the
shipped models loaded and their digests checked; the FastAPI server of benchmarks.serving until it
answers; and, in a Python of its own each, ONNX Runtime with one shipped model, and torch with
torchvision and the weights of such a network from a file. The last line says how many times sooner
CARE is ready than the other server.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from torchvision.models import mobilenet_v2

from benchmarks.measure import Ratio, ratio_table, table
from benchmarks.serving import CARE, OTHER, ROOT, serving

MODEL = "chest-xray"
SERVICE, OTHER_SERVER = "care serve until /readyz", "FastAPI + torch until it answers"
OURS, TORCH = "ONNX Runtime and a model", "torch + torchvision and a network"
LOAD_OURS = f"""
from models.store import load_one, shipped_models
load_one(shipped_models(), "{MODEL}")
"""
LOAD_TORCH = """
import sys, torch, torchvision
network = torchvision.models.mobilenet_v2(num_classes=3)
network.load_state_dict(torch.load(sys.argv[1], weights_only=True))
network.eval()
"""


def until_ready(command: list[str], probe: str) -> float:
    """Seconds until a server answers; it is ended afterwards."""
    begun = time.perf_counter()
    with serving(command, probe):
        return time.perf_counter() - begun


def loaded(script: str, *words: str) -> float:
    """Seconds that a script takes in a Python of its own."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", script, *words], cwd=ROOT, check=True)
    return time.perf_counter() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 1 if parser.parse_args().quick else 5
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights.pth")
        torch.save(mobilenet_v2(num_classes=3).state_dict(), weights)
        ways = {
            SERVICE: lambda: until_ready(CARE, "/readyz"),
            OTHER_SERVER: lambda: until_ready(OTHER, "/openapi.json"),
            OURS: lambda: loaded(LOAD_OURS),
            TORCH: lambda: loaded(LOAD_TORCH, str(weights)),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds + 1):  # the first one fills the page cache
            for name, way in ways.items():
                taken[name].append(way())
    seconds = {name: median(of[1:]) for name, of in taken.items()}
    found = [
        Ratio(one, other, seconds[other] / seconds[one], "as fast")
        for one, other in ((SERVICE, OTHER_SERVER), (OURS, TORCH))
    ]
    rows = [(name, f"{of:.1f}") for name, of in seconds.items()]
    print(table(["from nothing", "seconds"], rows), ratio_table(found), sep="\n\n")
    print(f"ratio: {found[0].times:.1f}")


if __name__ == "__main__":
    main()
