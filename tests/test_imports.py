"""Who may import what: the arrows of the architecture, and the homes of third-party libraries."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

OURS = {
    "imaging": set(),
    "models": {"imaging"},
    "training": {"imaging", "models"},
    "service": {"imaging", "models"},
    "cli": {"imaging", "models", "training", "service"},
}
"""What each package may import of the others."""

HOMES = {
    "pydicom": {"imaging"},
    "PIL": {"imaging"},
    "cv2": {"imaging", "training"},  # training computes with it; see OPENS_PICTURES
    "onnxruntime": {"models"},
    "torch": {"training"},
    "torchvision": {"training"},
    "onnx": {"training"},
    "bentoml": {"service"},
    "ray": {"service"},
    "highdicom": {"service"},
    "uvicorn": {"service"},
    "jinja2": {"service"},
    "pyarrow": {"service"},
    "typer": {"cli"},
}
"""The only packages that may import a library."""

OPENS_PICTURES = {"imread", "imdecode", "imreadmulti", "VideoCapture", "dcmread", "pixel_array"}
"""Names that turn a file into pixels. If only imaging does, there is only one way to do it."""


def imports(package: str) -> Iterator[tuple[str, str]]:
    """Where and what a package imports, within functions too: (file:line, top-level name)."""
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: a relative import hides where it points"
                names = [node.module or ""]
            else:
                continue
            for name in names:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", name.partition(".")[0]


@pytest.mark.parametrize("package", OURS)
def test_a_package_imports_only_what_its_arrows_allow(package: str):
    forbidden = (OURS.keys() | {"tests", "benchmarks", "scripts"}) - OURS[package] - {package}

    assert [(where, name) for where, name in imports(package) if name in forbidden] == []


@pytest.mark.parametrize("package", OURS)
def test_a_library_is_imported_only_at_its_home(package: str):
    forbidden = {library for library, homes in HOMES.items() if package not in homes}

    assert [(where, name) for where, name in imports(package) if name in forbidden] == []


@pytest.mark.parametrize("package", sorted(OURS.keys() - {"imaging"}))
def test_only_imaging_opens_a_picture(package: str):
    found = [
        (f"{path.relative_to(ROOT)}:{node.lineno}", node.attr)
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in OPENS_PICTURES
    ]

    assert found == []


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("cli.main", ["torch", "bentoml", "onnxruntime", "cv2"]),
        ("service.batch.run", ["torch", "bentoml", "fastapi", "pyarrow"]),
        ("service.batch.worker", ["torch", "cv2", "onnxruntime"]),
        ("service.api", ["torch"]),
        ("imaging.reading", ["torch", "bentoml", "onnxruntime"]),
    ],
)
def test_importing_one_side_never_loads_the_other(module: str, absent: list[str]):
    script = f"import sys, {module}; print(*sorted(set({absent}) & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == []


def test_training_on_photographs_needs_no_dicom_library():
    code = (
        "import sys\n"
        "for name in ('pydicom', 'gdcm', 'openjpeg', 'jpeg_ls', 'bentoml'):\n"
        "    sys.modules[name] = None\n"
        "import training.fit, training.release, training.boxes.generate\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=280)
