"""DCMTK's command line tools: encoders and decoders that share no code with ours."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.factories import as_bytes


def dcmtk(tool: str, dataset: Dataset | bytes, folder: Path, *options: str) -> bytes:
    """What a DCMTK tool makes of a data set; the test is skipped where DCMTK is missing."""
    if not shutil.which(tool):
        pytest.skip(f"{tool} of DCMTK is not installed")
    source, target = folder / "source.dcm", folder / "target.dcm"
    source.write_bytes(dataset if isinstance(dataset, bytes) else as_bytes(dataset))
    subprocess.run([tool, *options, source, target], check=True, capture_output=True, timeout=240)
    return target.read_bytes()


def decoded_by_dcmtk(data: bytes, folder: Path) -> np.ndarray:
    """Stored values of a JPEG-compressed gray frame, as DCMTK decodes them."""
    import io

    import pydicom

    plain = pydicom.dcmread(io.BytesIO(dcmtk("dcmdjpeg", data, folder)))
    return np.frombuffer(plain.PixelData, f"u{plain.BitsAllocated // 8}").reshape(
        plain.Rows, plain.Columns
    )
