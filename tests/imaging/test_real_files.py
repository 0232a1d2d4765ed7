"""Real files from public test suites: each ends in a picture or in one of our errors."""

import subprocess
import sys

import numpy as np
import pydicom
import pytest

from imaging.errors import ImagingError
from imaging.reading import open_image
from tests.imaging.oracle import displayed

EVERY_FILE = """
import sys
from pathlib import Path
from imaging.errors import ImagingError
from imaging.reading import open_image

for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        file = open_image(path)
        image = file.read(1)
        assert image.pixels.dtype == "uint8"
        assert image.pixels.shape[:2] == (file.facts.height, file.facts.width)
        assert image.pixels.shape[2:] in ((), (3,))
        print("ok")
    except ImagingError as error:
        assert error.problem
        print(type(error).__name__)
"""


def test_every_real_file_ends_in_a_picture_or_in_our_error_and_stderr_stays_empty(care_data):
    folder = care_data / "dicom" / "files"

    run = subprocess.run(
        [sys.executable, "-c", EVERY_FILE, folder], capture_output=True, text=True, timeout=280
    )

    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stderr == ""
    results = run.stdout.split()
    assert len(results) == len(list(folder.iterdir()))
    assert results.count("ok") >= 145


@pytest.mark.filterwarnings("ignore")
def test_real_pictures_look_as_pydicom_shows_them(care_data):
    compared, different = 0, []
    for path in sorted((care_data / "dicom" / "files").iterdir()):
        try:
            file = open_image(path)
            ours = file.read(1).pixels
        except ImagingError:
            continue
        try:
            theirs = displayed(pydicom.dcmread(path))
        except Exception:
            continue
        compared += 1
        worst = np.abs(ours - theirs).max() if ours.shape == theirs.shape else np.inf
        if worst > 1.01:
            different.append((path.name, float(worst)))
    assert different == []
    assert compared >= 125
