"""The Bento holds all that serving needs."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests import patience
from tests.server import free_port
from tests.service.pictures import film, square

ROOT = Path(__file__).parents[2]


def test_a_bento_is_built_and_serves(tmp_path, models_folder):
    own = {
        "BENTOML_HOME": str(tmp_path),
        "BENTOML_DO_NOT_TRACK": "True",
        "CARE_MODELS": str(models_folder),
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own
    bentoml = [sys.executable, "-m", "bentoml"]
    built = subprocess.run(
        [*bentoml, "build", "--output", "tag"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    tag = built.stdout.split("__tag__:")[-1].strip()
    [source] = tmp_path.glob("bentos/care/*/src")
    assert {"imaging", "models", "service"} <= {path.name for path in source.iterdir()}
    assert not {"training", "tests"} & {path.name for path in source.iterdir()}

    port = free_port()
    serve = [*bentoml, "serve", tag, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(serve, env=environment, cwd=tmp_path)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + patience.SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                httpx.get(f"{url}/readyz").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.3)
        answer = patience.post(f"{url}/classify", files={"image": film(square(200, 160, 20, 30))})
        assert answer.json()["model"]["name"] == "chest"
    finally:
        process.terminate()
        process.wait(patience.SECONDS)
