"""What docs/operations.md and deploy/ say is what the code does."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

import service.metrics
from models.store import model_names, shipped_models
from scripts.settings_table import PAGE, page
from service.errors import STATUS
from service.gate import OPEN
from service.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SAMPLE = re.compile(r"\bcare_[a-z0-9_]+")


def samples() -> set[str]:
    """Names of everything that /metrics shows."""
    found = set()
    for metric in vars(service.metrics).values():
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            if family.name.startswith("bentoml_"):
                continue  # the same as care_request*, for dashboards that are there already
            endings = {"counter": ["_total"], "gauge": [""]}
            for ending in endings.get(family.type, ["_bucket", "_sum", "_count"]):
                found.add(family.name + ending)
    return found


def test_the_table_of_settings_is_made_from_the_code():
    text = PAGE.read_text(encoding="utf-8")

    assert text == page(text), "run python -m scripts.settings_table"
    assert all(f"`CARE_{name.upper()}`" in text for name in Settings.model_fields)


def test_every_metric_is_explained():
    explained = set(re.findall(r"^\| `(care_[a-z_]+)` \|", PAGE.read_text(), re.MULTILINE))

    plain = {re.sub("_(bucket|sum|count)$", "", name) for name in samples()}
    assert explained == plain


@pytest.mark.parametrize("file", ["alerts.yaml", "dashboard.json"])
def test_rules_and_dashboard_ask_for_metrics_there_are(file):
    asked = set(SAMPLE.findall((DEPLOY / file).read_text()))

    assert asked
    assert asked <= samples()


def test_the_dashboard_shows_every_metric():
    shown = set(SAMPLE.findall((DEPLOY / "dashboard.json").read_text()))

    stems = {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
    assert stems == {re.sub("_(bucket|sum|count)$", "", name) for name in samples()}
    panels = json.loads((DEPLOY / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_what_rates_and_shares_are_made_of_is_counted_from_zero():
    start = "from tests.server import in_this_process as start; print(start().get('/metrics').text)"
    counted = subprocess.check_output([sys.executable, "-c", start], cwd=ROOT, text=True)

    watched = re.findall(r'code="(\w+)"', (DEPLOY / "alerts.yaml").read_text())
    assert watched
    for code in (*watched, *(kind.code for kind in STATUS)):
        assert f'care_errors_total{{code="{code}"}} 0.0' in counted
    for model in model_names(shipped_models()):
        for answer in ("yes", "no"):
            line = f'care_in_distribution_total{{answer="{answer}",model="{model}"}} 0.0'
            assert line in counted


def test_the_manifests_set_what_there_is_and_probe_what_is_open():
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    deployment = next(one for one in documents if one["kind"] == "Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]

    names = {entry["name"] for entry in container["env"] if entry["name"].startswith("CARE_")}
    assert names <= {f"CARE_{name.upper()}" for name in Settings.model_fields}
    probes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")}
    assert probes <= OPEN
    assert container["securityContext"]["readOnlyRootFilesystem"]
