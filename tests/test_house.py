"""What is written down about building and installing, and what must never be."""

import ast
import os
import re
import subprocess
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from service.server.allocator import ALLOCATOR
from tests.test_imports import imports

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text().splitlines()


def canonical(requirement: str) -> str:
    """Name of what is required, as package indexes spell it."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def extra(name: str) -> set[str]:
    """Names an extra brings, those of the extras it refers to included; not the base's."""
    found = set()
    for requirement in PROJECT["optional-dependencies"][name]:
        if reference := re.fullmatch(r"care-diagnosis\[(.+)\]", requirement):
            found |= extra(reference[1])
        else:
            found.add(canonical(requirement))
    return found


BASE = {canonical(requirement) for requirement in PROJECT["dependencies"]}


def tracked_texts() -> dict[str, str]:
    """Every text file of the repository, by name; without git, every file a build would ship."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    texts = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (data := path.read_bytes()):
            texts[name] = data.decode("utf-8", errors="replace")
    return texts


@pytest.mark.parametrize(("serving", "runtime"), [("serve", "-gpu"), ("serve-cpu", "")])
def test_serving_needs_one_onnx_runtime_and_no_torch(serving: str, runtime: str):
    needed = BASE | extra(serving)

    assert {name for name in needed if name.startswith("onnxruntime")} == {f"onnxruntime{runtime}"}
    assert not {name for name in needed if name.startswith(("torch", "lightning", "nvidia"))}


def test_only_one_opencv_is_ever_asked_for():
    asked = BASE.union(*map(extra, PROJECT["optional-dependencies"]))
    pinned = {canonical(line) for line in CONSTRAINTS}

    assert {name for name in asked | pinned if "opencv" in name} == {"opencv-python"}


def test_constraints_are_pins_and_nothing_else():
    assert [line for line in CONSTRAINTS if not re.fullmatch(r"[\w.-]+==[\w.+!-]+", line)] == []
    assert len({canonical(line) for line in CONSTRAINTS}) == len(CONSTRAINTS)


COMES_WITH = {
    "anyio": "fastapi",
    "boto3": "moto",
    "markupsafe": "jinja2",
    "starlette": "fastapi",
}
"""Libraries that are no choice of ours, by what needs and shows them."""

APART = {"grad-cam"}
"""Libraries that the Makefile installs without their needs."""


@pytest.mark.parametrize(
    "package", ["imaging", "models", "training", "service", "cli", "benchmarks", "tests"]
)
def test_everything_imported_is_asked_for(package: str):
    asked = BASE.union(*map(extra, PROJECT["optional-dependencies"]))
    brings = packages_distributions()

    missing = set()
    for _, name in imports(package):
        found = {canonical(one) for one in brings.get(name, [])} - {canonical(PROJECT["name"])}
        if found and not {COMES_WITH.get(one, one) for one in found} & (asked | APART):
            missing.add(name)
    assert missing == set()


def test_everything_asked_for_is_pinned():
    asked = BASE.union(*map(extra, PROJECT["optional-dependencies"]))

    assert asked - {canonical(line) for line in CONSTRAINTS} == set()


def test_the_bento_needs_what_the_serving_extra_needs_as_pinned():
    bento = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
    packages = bento["python"]["packages"]

    assert {canonical(package) for package in packages} == BASE | extra("serve-cpu")
    assert set(packages) <= set(CONSTRAINTS)
    assert bento["python"]["lock_packages"] is False


def test_the_bento_has_the_environment_that_care_serve_has():
    bento = yaml.safe_load((ROOT / "bentofile.yaml").read_text())

    set_there = {entry["name"]: entry["value"] for entry in bento["envs"]}
    assert set_there == ALLOCATOR | {"BENTOML_DO_NOT_TRACK": "True"}


def test_the_bento_installs_the_libraries_that_the_container_does():
    bento = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
    installs = r"apt-get install --yes --no-install-recommends (.*) \\"
    [packages] = re.findall(installs, (ROOT / "Dockerfile").read_text())

    assert bento["docker"]["system_packages"] == packages.split()


def test_the_container_copies_all_that_the_command_imports():
    copied = set(re.findall(r"^COPY (\w+)/ \1/$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))

    assert copied == {"imaging", "models", "service", "training", "cli"}


def test_every_chore_of_the_makefile_is_listed_by_help():
    makefile = (ROOT / "Makefile").read_text()
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)

    assert set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE)) == set(phony.split())


MACHINE_PATH = re.compile(r"(?<![\w./~-])/(?:home|root|Users|work|mnt|scratch)/\w")
REGISTRY = re.compile(
    r"https?://[\w.-]*(?:pypi|pythonhosted|artifactory|nexus|npmjs|mirror|registry|proxy)[\w.-]*"
    r"|--(?:extra-)?index[-]url\s+\S+|--trusted-host\s+\S+"
)


def test_no_file_names_a_package_index_or_a_place_on_one_machine():
    found = [
        (name, match[0])
        for name, text in tracked_texts().items()
        if name != "tests/test_house.py"
        for match in (*MACHINE_PATH.finditer(text), *REGISTRY.finditer(text))
    ]

    assert found == []


def test_no_file_names_the_package_index_of_this_machine():
    settings = [value for name, value in os.environ.items() if "INDEX" in name or "PROXY" in name]
    hosts = {urlsplit(value).hostname for value in settings} - {None, "localhost", "127.0.0.1"}

    found = [
        (name, host) for name, text in tracked_texts().items() for host in hosts if host in text
    ]

    assert found == []


@pytest.mark.parametrize(
    "package",
    sorted(
        str(path.parent.relative_to(ROOT))
        for name in ("imaging", "models", "training", "service", "cli", "benchmarks")
        for path in (ROOT / name).rglob("__init__.py")
    ),
)
def test_a_package_says_what_its_modules_are_for(package: str):
    folder = ROOT / package
    listed = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    modules = {path.name for path in folder.glob("*.py")} - {"__init__.py"}

    assert {
        name for name in modules if not re.search(rf"^ *{re.escape(name)} ", listed, re.M)
    } == set()
