"""Mutated pictures through the whole service: no 5xx, no hang, no crash, whatever is sent.

    python -m tests.fuzz --cases 20000 --seed 0
    python -m tests.fuzz --seed 0 --only 4711 --keep case.bin     # one of them again

Pictures are generated; where CARE_DATA names the folder of real ones, these are mutated too. Each
case is a function of seed and number. Exit code 1 if a case failed; a hang ends the run with a
traceback that shows where.
"""

import argparse
import faulthandler
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import cv2
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from starlette.testclient import TestClient

from tests.factories import (
    as_bytes,
    as_bytes_deflated,
    as_bytes_without_preamble,
    as_jpeg,
    as_png,
    make_color,
    make_dicom,
    make_film,
    with_profile,
)
from tests.imaging.color_science import DISPLAY_P3, matrix_profile, table_profile
from tests.models_factory import square_model
from tests.server import in_this_process

HANG_SECONDS = 240
LARGEST_REAL_FILE = 300_000
MOST_REAL_FILES = 60

INTERESTING = [
    b"\0",
    b"\xff",
    b"\x7f\xff",
    b"\xff" * 4,
    b"\0" * 4,
    b"\x80\0\0\0",
    b"\xff\xff\xff\x7f",
]


def samples() -> list[bytes]:
    """Pictures to mutate, small and of many kinds."""
    film, color = make_film(64, 48), make_color()
    made = [
        as_bytes(make_dicom(film, bits_stored=12)),
        as_bytes(make_dicom(film, photometric="MONOCHROME1", bits_stored=12)),
        as_bytes(make_dicom(make_film(64, 48, bits=8))),
        as_bytes(make_dicom(color)),
        as_bytes(make_dicom(color, planar=1)),
        as_bytes(make_dicom(film, syntax=ImplicitVRLittleEndian)),
        as_bytes(make_dicom(film, syntax=ExplicitVRBigEndian)),
        as_bytes_without_preamble(make_dicom(film)),
        as_bytes_deflated(make_dicom(film)),
        as_png(make_film(64, 48, bits=8)),
        as_png(make_film(64, 48, bits=16)),
        as_png(color),
        as_jpeg(color, orientation=6),
        with_profile(as_jpeg(color), matrix_profile(DISPLAY_P3)),
        as_bytes(make_dicom(color, ICCProfile=table_profile(DISPLAY_P3))),
        as_jpeg(make_film(64, 48, bits=8)),
        cv2.imencode(".jpg", color, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes(),
    ]
    for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        dataset = make_dicom(film, bits_stored=12)
        dataset.compress(syntax)
        made.append(as_bytes(dataset))
    return made + real_samples()


def real_samples() -> list[bytes]:
    """Some of the real files, if they are here."""
    folder = os.environ.get("CARE_DATA")
    if not folder:
        return []
    files = [
        path
        for kind in ("*.dcm", "*.jpg", "*.jpeg", "*.png", "dicom/files/*")
        for path in sorted(Path(folder).rglob(kind))
        if path.is_file() and path.stat().st_size <= LARGEST_REAL_FILE
    ]
    step = max(1, len(files) // MOST_REAL_FILES)
    return [path.read_bytes() for path in files[::step]]


def mutated(known: list[bytes], dice: random.Random) -> bytes:
    """One of the pictures, damaged in some way."""
    data = bytearray(dice.choice(known))
    # Headers are where the decisions are taken, so half of the damage goes there.
    reach = len(data) if dice.random() < 0.5 else min(len(data), 1200)
    for _ in range(dice.choice((1, 1, 2, 4, 16, 64))):
        at = dice.randrange(max(1, min(reach, len(data))))
        length = dice.choice((1, 2, 4, 16, 200))
        way = dice.randrange(7)
        if way == 0 and data:
            data[at % len(data)] ^= 1 << dice.randrange(8)
        elif way == 1:
            data[at : at + length] = dice.randbytes(length)
        elif way == 2:
            del data[at : at + length]
        elif way == 3:
            data[at:at] = data[at : at + length] * dice.choice((1, 2, 50))
        elif way == 4:
            value = dice.choice(INTERESTING)
            data[at : at + len(value)] = value
        elif way == 5:
            other = dice.choice(known)
            start = dice.randrange(len(other))
            data[at : at + length] = other[start : start + length]
        elif dice.random() < 0.2:
            del data[at:]
    return bytes(data)


def case(known: list[bytes], seed: int, number: int) -> tuple[str, bytes, dict[str, str]]:
    """The path, file and form fields of one request."""
    dice = random.Random(f"{seed}/{number}")
    data = mutated(known, dice)
    options = {"model": "square"} if dice.random() < 0.9 else {}
    if dice.random() < 0.5:
        options["force"] = "true"
    if dice.random() < 0.2:
        options["frame"] = str(dice.choice((1, 2, 99)))
    if dice.random() < 0.7:
        return "/classify", data, options
    if dice.random() < 0.5:
        return "/picture", data, {name: options[name] for name in options.keys() & {"frame"}}
    return "/explain", data, options | {"max_side": "64"}


def serve(models: Path) -> TestClient:
    """The service in this process, with a small model."""
    square_model(models)
    os.environ |= {
        "CARE_MODELS": str(models),
        "CARE_MAX_MEGAPIXELS": "4",
        "CARE_DECODE_TIMEOUT_S": "10",
    }
    return in_this_process()


def run(client: TestClient, *, cases: int, seed: int, known: list[bytes]) -> tuple[Counter, list]:
    """Send cases.

    Returns:
        How often each answer came; and the numbers of the cases that failed.
    """
    seen: Counter[str] = Counter()
    failed = []
    for number in range(cases):
        path, data, options = case(known, seed, number)
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        answer = client.post(path, files={"image": ("a", data)}, data=options)
        faulthandler.cancel_dump_traceback_later()
        good = answer.status_code == 200
        seen["ok" if good else answer.json()["error"]["code"]] += 1
        if answer.status_code >= 500:
            failed.append(number)
    return seen, failed


def main() -> int:
    """Read the command line, run, and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of one case to send again")
    parser.add_argument("--keep", type=Path, help="where to write the file of that case")
    arguments = parser.parse_args()
    known = samples()
    with tempfile.TemporaryDirectory() as folder:
        client = serve(Path(folder))
        if arguments.only is not None:
            path, data, options = case(known, arguments.seed, arguments.only)
            if arguments.keep:
                arguments.keep.write_bytes(data)
            answer = client.post(path, files={"image": ("a", data)}, data=options)
            print(path, options, answer.status_code, answer.text[:500])
            return answer.status_code >= 500
        start = time.monotonic()
        seen, failed = run(client, cases=arguments.cases, seed=arguments.seed, known=known)
    print(f"{arguments.cases} cases of {len(known)} pictures in {time.monotonic() - start:.0f} s")
    for code, count in seen.most_common():
        print(f"  {code:<20}{count:>8}")
    print(f"failed: {len(failed)} {failed[:20]}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
