"""From the bytes of a film to JSON with its overlay, against the usual stack, in one process.

    python -m benchmarks.explain [--quick]

Ours is what the service does between request and answer, with a shipped model; the other is
pydicom, NumPy, torch, pytorch-grad-cam and OpenCV with a network of the same kind. Each on one
core, without HTTP; overlays of at most 1024 pixels, as PNG in base64. The last line says how many
times faster ours is for a film of 3000 x 2500 pixels.
"""

import argparse
import base64
import json
from collections.abc import Callable
from functools import partial

import cv2
import torch

from benchmarks.film_to_input import FULL, SIZES, film, to_bytes
from benchmarks.measure import Ratio, growth, interleaved, ratio_table, show
from benchmarks.usual import UsualStack
from models.store import load_card, shipped_models
from service.answers import explanation
from service.options import ExplainOptions
from service.reading_room import ReadingRoom
from service.settings import Settings

MODEL = "chest-xray"
OURS, USUAL = "ours", "usual stack"
TARGET = 8.0  # how many times as fast ours has to be

Explain = Callable[[bytes], bytes]
"""A file's bytes to JSON with probabilities and an overlay."""


def ours() -> Explain:
    """The way of the service, with its default settings."""
    room = ReadingRoom(Settings(models=shipped_models()))
    options = ExplainOptions(model=MODEL, force=True, output="json")
    return lambda data: bytes(explanation(room.read(data, options), options, "").body)


def usual() -> Explain:
    """The way of most projects."""
    stack = UsualStack(classes=len(load_card(shipped_models(), MODEL).labels))

    def explain(data: bytes) -> bytes:
        shown, images = stack.read(data)
        heatmap, probabilities = stack.heatmap(images)
        overlay = base64.b64encode(stack.overlay(shown, heatmap)).decode()
        return json.dumps({"probabilities": probabilities, "overlay": overlay}).encode()

    return explain


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 11
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    ways = {OURS: ours(), USUAL: usual()}
    sizes = {}
    for rows, columns in SIZES:
        data = to_bytes(film(rows, columns))
        calls = {name: partial(way, data) for name, way in ways.items()}
        medians = interleaved(calls, rounds=rounds if (rows, columns) == FULL else 3)
        show(f"{rows} x {columns}, 12 bits → JSON with overlay", medians)
        sizes[rows, columns] = medians
    found = Ratio(
        "film to JSON with overlay",
        "pydicom + NumPy + torch + pytorch-grad-cam",
        sizes[FULL][USUAL] / sizes[FULL][OURS],
        "as fast",
        at_least=TARGET,
    )
    named = {f"{rows} x {columns}": medians for (rows, columns), medians in sizes.items()}
    print(growth("pixels", named, OURS), ratio_table([found]), sep="\n\n")
    print(f"ratio: {found.times:.1f}")


if __name__ == "__main__":
    main()
