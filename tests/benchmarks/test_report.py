"""The page is made of the reports there are, and says what is missing."""

import ast
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.measure import Ratio, ratio_table, table
from benchmarks.report import BENCHMARKS, NO_GPU, Report, as_markdown, page

FILES = {path.stem: path for path in report.HERE.glob("[a-z]*.py")}
CPU = f"2 cores of a processor, 8 GB of memory, {NO_GPU}, Linux. Python 3.11, numpy 2.4."
GPU = "16 cores of another, 128 GB of memory, a GPU, Linux. Python 3.11, numpy 2.4."

RATIOS = ratio_table(
    [
        Ratio("film", "NumPy", 6.1, "as fast", at_least=5),
        Ratio("film", "highdicom", 9.0, "as fast"),
    ]
)
GROWTH = table(["pixels", "ms"], [["3000 x 2500", 11]])


def made(name: str, where: str = CPU) -> Report:
    printed = f"aligned   1 ms\n\n{GROWTH}\n\n{RATIOS}\nratio: 6.1\n"
    when = f"`python -m benchmarks.{name}`, 2026-01-31, 1.5 minutes."
    return Report(name, f"About {name}.", when, where, f"How.\n\n{as_markdown(printed)}\n")


def says(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def commands(monkeypatch) -> dict[str, str]:
    """What stands in for some benchmarks: name → code."""
    codes: dict[str, str] = {}
    real = report.echoed
    monkeypatch.setattr(
        report, "echoed", lambda command: real(says(codes[command[3].rpartition(".")[2]]))
    )
    return codes


def test_every_benchmark_is_on_the_page():
    with_main = {
        name
        for name, path in FILES.items()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    }

    assert set(BENCHMARKS) == with_main - {"report"}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_says_what_it_measures_how_to_call_it_and_how_it_measures(name: str):
    text = FILES[name].read_text()
    about, command, how = (ast.get_docstring(ast.parse(text)) or "").split("\n\n", 2)

    assert about.endswith(".")
    assert "\n" not in about
    assert command.startswith(f"    python -m benchmarks.{name} [--quick]")
    assert how.rstrip().endswith(".")
    assert '"--quick"' in text


def test_a_report_is_read_as_it_was_written(tmp_path):
    written = made("maps")
    written.write(tmp_path)

    assert Report.read(tmp_path / "maps.md") == written
    assert [path.name for path in tmp_path.iterdir()] == ["maps.md"]


def test_tables_stay_tables_and_the_rest_is_fenced():
    assert made("maps").body.split("\n\n") == [
        "How.",
        "```text\naligned   1 ms\n```",
        GROWTH,
        RATIOS,
        "```text\nratio: 6.1\n```\n",
    ]


def test_the_page_has_targets_first_and_then_each_section_in_its_order():
    text = page([made("serving"), made("film_to_input")])

    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# Speed",
        "## Targets",
        "## film_to_input",
        "## serving",
        "## Not measured",
    ]
    targets = text.partition("## Targets\n\n")[2].partition("\n\n")[0].splitlines()
    assert targets[2:] == ["| film | NumPy | 6.10 times as fast | at least 5: met |"] * 2
    section = text.partition("## film_to_input\n\n")[2].partition("\n\n## ")[0]
    assert section.split("\n\n") == [
        "About film_to_input.",
        "`python -m benchmarks.film_to_input`, 2026-01-31, 1.5 minutes. "
        "[Report](reports/film_to_input.md).",
        GROWTH,
        RATIOS,
    ]


def test_the_page_names_what_is_missing():
    missing = page([made("maps")]).partition("## Not measured\n\n")[2].splitlines()

    assert missing == [
        *(f"- `{name}`: there is no report." for name in BENCHMARKS if name != "maps"),
        "- GPU: not measured here: no GPU was there.",
    ]
    assert "## Not measured" not in page([made(name, GPU) for name in BENCHMARKS])


def test_the_machine_is_named_once_or_where_there_were_two_in_each_section():
    same, apart = page([made("maps"), made("batch")]), page([made("maps"), made("batch", GPU)])

    assert same.count(CPU) == 1
    assert apart.index("## maps") < apart.index(CPU) < apart.index("## batch") < apart.index(GPU)


def test_a_page_without_reports_says_so():
    assert page([]).count("there is no report") == len(BENCHMARKS)


def test_the_machine_is_described_without_its_name_or_a_place_on_it():
    import platform

    text = report.machine()

    assert platform.node() not in text
    assert str(Path.home()) not in text
    assert "numpy" in text


def test_a_benchmark_that_fails_leaves_its_report_as_it_was_and_the_others_go_on(
    commands, tmp_path, capfd
):
    reports = tmp_path / "reports"
    reports.mkdir()
    made("maps").write(reports)
    commands["maps"] = "print('| half'); raise SystemExit(3)"
    commands["gradcam"] = f"print({RATIOS!r})"

    failed = report.main(["--only", "maps", "gradcam", "--folder", str(tmp_path)])

    assert failed == 1
    assert Report.read(reports / "maps.md") == made("maps")
    assert Report.read(reports / "gradcam.md").targets == made("maps").targets
    assert {path.name for path in reports.iterdir()} == {"maps.md", "gradcam.md"}
    text = (tmp_path / "REPORT.md").read_text()
    assert "## maps" in text
    assert "## gradcam" in text
    assert "maps: exit code 3" in capfd.readouterr().out


def test_the_page_can_be_made_of_what_is_there(tmp_path):
    (tmp_path / "reports").mkdir()
    made("batch").write(tmp_path / "reports")

    assert report.main(["--only", "--folder", str(tmp_path)]) == 0
    assert (tmp_path / "REPORT.md").read_text() == page([made("batch")])


def test_a_quick_run_is_called_one(commands):
    commands["maps"] = "print('nothing')"

    found = report.measure("maps", quick=True)

    assert found.when.startswith("`python -m benchmarks.maps --quick`, ")
    assert found.when.endswith("A quick run: its figures are rough.")
    assert found.body.endswith("```text\nnothing\n```\n")
