"""What docs/operations.md and deploy/ say is what the code does."""

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

import service.metrics
from scripts.settings_table import PAGE, page
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


def test_the_manifests_set_what_there_is_and_probe_what_is_open():
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    deployment = next(one for one in documents if one["kind"] == "Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]

    names = {entry["name"] for entry in container["env"] if entry["name"].startswith("CARE_")}
    assert names <= {f"CARE_{name.upper()}" for name in Settings.model_fields}
    probes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")}
    assert probes <= OPEN
    assert container["securityContext"]["readOnlyRootFilesystem"]
