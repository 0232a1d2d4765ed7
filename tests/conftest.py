import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def care_data() -> Path:
    """Folder with real pictures, files and weights; a test that needs it is skipped without."""
    beside = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("CARE_DATA", beside))
    if not folder.is_dir():
        pytest.skip("real data are not here; CARE_DATA names their folder")
    return folder
