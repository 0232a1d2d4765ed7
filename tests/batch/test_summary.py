"""The summary: its numbers are the table's, every row is explained, and no patient is named."""

import base64
import dataclasses
import html
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imaging.errors import ImagingError
from imaging.reading import read_image
from models.card import Accepts
from models.store import load_card
from service.batch import run
from service.batch.codes import CODES
from service.batch.errors import BatchError
from service.batch.files import File
from service.batch.job import Job, Row, columns
from service.batch.statistics import BINS, EXAMPLES, HIGHEST, REASONS, SLOWEST, Counts, Statistics
from service.batch.summary import FILTERS, SHOWN_REASONS, Ran, write_page
from service.batch.table import filled, write_table
from tests.batch.conftest import FILES, SCORED, score, write_picture
from tests.batch.test_continuing import Watched, stop_after
from tests.factories import as_png, bright_square, make_dicom, make_film
from tests.models_factory import square_model

LABELS = ("benign", "rare & <b>bold</b>", "other")
POINTS = dict(zip(LABELS, (0.5, 0.123456, 0.9), strict=True))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "summary.html"


def nobody(*_):
    """An engine that finds every file gone."""
    return iter(())


def words(page: Path | str) -> str:
    """What a person reads of a page, in one line."""
    text = page.read_text("utf-8") if isinstance(page, Path) else page
    text = re.sub(r"<(style|title)>.*?</\1>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def part(page: Path, start: str) -> str:
    """The article or section that begins with an id."""
    text = page.read_text("utf-8")
    inner = text[text.index(f'id="{start}"') :]
    return re.split(r"</article>|</section>", inner)[0]


def made_up(count: int, seed: int = 0) -> list[Row]:
    """Rows of all kinds, some with the same content."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for number in range(count):
        row: Row = {
            "file": f"film {number}.dcm",
            "sha256": random.bytes(32).hex(),
            "duration_ms": round(float(random.lognormal(4)), 1),
        }
        kind = random.random()
        if kind < 0.1 and rows:  # a content seen before
            row = rows[int(random.integers(len(rows)))] | {"file": f"copy {number}.dcm"}
        elif kind < 0.2:
            code = ["unreadable", "crashed", "not_suitable"][int(random.integers(3))]
            row |= {"status": "error", "error_code": code, "error": f"for reason {number % 7}"}
            row |= {"duration_ms": None, "sha256": None} if code == "crashed" else {}
        elif kind < 0.25:
            row |= {"status": "skipped", "error_code": "excluded", "error": "view is LATERAL"}
        else:
            shares = random.dirichlet([0.4, 0.3, 0.5])
            scores = {label: round(float(p), 6) for label, p in zip(LABELS, shares, strict=True)}
            label = max(scores, key=scores.__getitem__)
            row |= {"status": "ok", "label": label, "probability": scores[label]}
            row |= {f"p_{name}": p for name, p in scores.items()}
            row["in_distribution"] = bool(random.random() < 0.7)
            if random.random() < 0.05:
                row |= {"error_code": "forced", "error": "body part is KNEE, expected CHEST"}
        rows.append(row)
    return [filled(row, columns(LABELS)) for row in rows]


def a_run(table: str, *, worked: int) -> Ran:
    return Ran(
        sources=["films"],
        table=table,
        names=False,
        started=datetime.now(UTC),
        worked=worked,
        engine=nobody,
    )


@pytest.fixture
def gathered(tmp_path: Path, page: Path) -> tuple[pd.DataFrame, Path]:
    """A table of made-up rows as pandas reads it, and the page of them."""
    square_model(tmp_path / "models", labels=LABELS)
    job = Job(models=tmp_path / "models", model="square")
    card = dataclasses.replace(load_card(job.models, job.model), operating_points=POINTS)
    counts, statistics = Counts(), Statistics(card)
    with write_table(tmp_path / "t.parquet", columns(LABELS), ".parquet") as write:
        for number, row in enumerate(made_up(3000), start=1):
            write(row)
            counts.add(row)
            statistics.add(number, File(row["file"], "gone"), row)
    ran = a_run("t.parquet", worked=3000)
    write_page(page, tmp_path / "drawn", counts, statistics, ran, job, card)
    table = pd.read_parquet(tmp_path / "t.parquet")
    table["row"] = range(1, len(table) + 1)
    return table, page


def test_counts_on_the_page_are_those_of_the_table(gathered: tuple[pd.DataFrame, Path]):
    table, page = gathered
    ok = table[table.status == "ok"]
    unlike = int((~ok.in_distribution.astype(bool)).sum())

    said = words(part(page, "glance"))

    assert f"{len(ok):,} scored" in said
    assert f"{(table.status == 'error').sum()} could not be scored" in said
    assert f"{(table.status == 'skipped').sum()} left out on purpose" in said
    assert f"{(table.error_code == 'forced').sum()} scored by force" in said
    assert f"{unlike} of {len(ok):,} pictures are unlike" in said
    assert f"{100 * unlike / len(ok):.3g} % of those scored are unlike" in said
    for label, point in POINTS.items():
        top, found = (ok.label == label).sum(), (ok[f"p_{label}"] >= point).sum()
        line = f"{label} {point:.4g} {top:,} {100 * top / len(ok):.3g} % {found:,} "
        assert f"{line}{100 * found / len(ok):.3g} %" in said


def test_histograms_on_the_page_are_those_of_the_table(gathered: tuple[pd.DataFrame, Path]):
    table, page = gathered
    for number, label in enumerate(LABELS, start=1):
        scores = table[table.status == "ok"][f"p_{label}"]
        expected, _ = np.histogram(scores, np.linspace(0, 1, BINS + 1))

        article = part(page, f"class-{number}")

        drawn = re.findall(r"<title>([\d.]+) to ([\d.]+): ([\d,]+) files?</title>", article)
        listed = re.findall(r"<td>([\d.]+) to ([\d.]+)</td><td class=\"n\">([\d,]+)</td>", article)
        there = [
            (f"{index / BINS:.2f}", f"{(index + 1) / BINS:.2f}", f"{count:,}")
            for index, count in enumerate(expected)
            if count
        ]
        assert drawn == listed == there
        heights = [
            float(found) for found in re.findall(r'class="bar".*? height="([\d.]+)"', article)
        ]
        logarithms = np.log10(1 + expected[expected > 0])
        assert heights == pytest.approx(122 * logarithms / logarithms.max())
        [point] = re.findall(r'<line class="point" x1="([\d.]+)"', article)
        assert (float(point) - 36) / 392 == pytest.approx(POINTS[label])


def test_the_highest_scores_on_the_page_are_those_of_the_table(
    gathered: tuple[pd.DataFrame, Path],
):
    table, page = gathered
    ok = table[table.status == "ok"]
    for number, label in enumerate(LABELS, start=1):
        ranked = ok.sort_values([f"p_{label}", "row"], ascending=[False, True])
        highest = ranked.drop_duplicates("sha256").head(HIGHEST)

        figures = part(page, f"class-{number}").split("<figure>")[1:]

        assert len(figures) == HIGHEST
        for figure, (_, row) in zip(figures, highest.iterrows(), strict=True):
            said = words(figure)
            assert f"row {row.row} · {row.sha256[:8]}" in said
            shown = float(re.findall(r'class="score"><b>([\d.]+)</b>', figure)[0])
            assert shown == pytest.approx(row[f"p_{label}"], abs=5e-5)
            assert ("reaches its operating point" in said) == (row[f"p_{label}"] >= POINTS[label])
            assert ("unlike the training pictures" in said) == (not row.in_distribution)
            assert ("forced: body part is KNEE" in said) == (row.error_code == "forced")
            copies = (ok.sha256 == row.sha256).sum() - 1
            assert (f"same content in {copies} more row" in said) == bool(copies)


def test_errors_on_the_page_are_those_of_the_table_and_are_explained(
    gathered: tuple[pd.DataFrame, Path],
):
    table, page = gathered
    for code, rows in table.groupby("error_code"):
        article = part(page, f"code-{code}")

        said = words(article)

        assert f"{len(rows)} files" in said
        assert CODES[str(code)].means in said
        assert f"Who can act: {CODES[str(code)].who}. {CODES[str(code)].act}" in said
        for message, those in rows.groupby("error"):
            numbers = ", ".join(map(str, those.row[:EXAMPLES]))
            more = f", … {len(those) - EXAMPLES} more" if len(those) > EXAMPLES else ""
            assert f"{len(those)} {message} {numbers}{more}" in re.sub(r" ,", ",", said)
    assert 'id="code-timeout"' not in page.read_text()
    errors = table[table.status == "error"].error_code.value_counts()
    order = [*errors.sort_index().sort_values(ascending=False, kind="stable").index]
    assert re.findall(r'<h3 id="code-(\w+)"', page.read_text()) == [*order, "excluded", "forced"]


def test_of_more_reasons_than_are_shown_the_rest_is_counted_together(
    tmp_path: Path, job: Job, page: Path
):
    card = load_card(job.models, job.model)
    counts, statistics = Counts(), Statistics(card)
    for number in range(1, SHOWN_REASONS + 6):
        row = {
            "file": "f",
            "status": "error",
            "error_code": "unreadable",
            "error": f"{number} bytes",
        }
        counts.add(row)
        statistics.add(number, File("f", "f"), row)

    ran = a_run("t.csv", worked=SHOWN_REASONS + 5)
    write_page(page, tmp_path / "drawn", counts, statistics, ran, job, card)

    said = words(part(page, "code-unreadable"))
    assert said.count(" bytes ") == SHOWN_REASONS
    assert "5 other reasons" in said


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [
        *((0, 10_000, "0 %"), (1, 10_000, "< 0.1 %"), (10, 10_000, "0.1 %")),
        *((9_990, 10_000, "99.9 %"), (9_999, 10_000, "> 99.9 %"), (10_000, 10_000, "100 %")),
    ],
)
def test_a_share_is_nothing_or_everything_only_where_it_is(part: int, whole: int, said: str):
    assert FILTERS["share"](part, whole) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (0.000001, "0.000001"), (0.5, "0.5"), (0.999999, "0.999999"), (1, "1")],
)
def test_a_probability_is_0_or_1_only_where_it_is(value: float, said: str):
    assert FILTERS["probability"](value) == said


def test_the_slowest_files_on_the_page_are_those_of_the_table(
    gathered: tuple[pd.DataFrame, Path],
):
    table, page = gathered
    slowest = table.sort_values(["duration_ms", "row"], ascending=[False, True])
    slowest = slowest.drop_duplicates("sha256").head(SLOWEST)

    said = words(part(page, "slowest"))

    found = [int(number) for number in re.findall(r"row (\d+) ·", said)]
    assert found == list(slowest.row)
    assert f"A file took {table.duration_ms.mean():,.0f} ms on average" in said
    assert said.count("not known any more") == SLOWEST


def test_what_is_gathered_does_not_grow_with_the_table(job: Job):
    statistics = Statistics(load_card(job.models, job.model))
    for number in range(1, 20_001):
        error = {"status": "error", "error_code": "unreadable", "error": f"{number} bytes"}
        statistics.add(number, File("f", "f"), {"file": "f", **error, "duration_ms": 1.0})

    [reasons] = statistics.reasons.values()

    assert len(reasons) == REASONS + 1
    assert sum(reason.count for reason in reasons.values()) == 20_000
    assert all(len(reason.rows) <= EXAMPLES for reason in reasons.values())
    assert len(statistics.slowest.rows()) == SLOWEST


def test_every_code_that_a_row_can_have_is_explained():
    def below(kind: type) -> set[type]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    of_files = {kind.code for kind in below(ImagingError) - {ImagingError}}
    of_runs = {"crashed", "timeout", "out_of_memory", "internal_error", "excluded"}

    assert set(CODES) == of_files | of_runs | {"forced", "not_captured"}


def test_a_page_shows_the_very_overlays(films: Path, job: Job, out: Path, page: Path):
    both = dataclasses.replace(job, overlays=True, draw=("dark", "square"))
    overlays = out.parent / "overlays"
    watched = Watched()

    score(films, both, out, watched, overlays=overlays, summary=page)  # type: ignore[arg-type]

    assert watched.scored == FILES  # and nothing again
    drawn = {}
    for number, label in enumerate(("dark", "square"), start=1):
        figures = part(page, f"class-{number}").split("<figure>")[1:]
        for figure in figures:
            [row, content] = re.search(
                r"row <b>(\d+)</b>.*?<code[^>]*>(\w+)", figure, re.S
            ).groups()
            [data] = re.findall(r'src="data:image/webp;base64,([^"]+)"', figure)
            drawn[overlays / f"{int(row):06d}-{content}-{label}.png"] = base64.b64decode(data)
    assert len(drawn) == 2 * len(SCORED)
    for path, data in drawn.items():
        assert data[8:12] == b"WEBP"
        expected = read_image(path).pixels.shape
        assert expected[:2] == (80, 48) or expected[:2] == (64, 48)
    assert len(set(drawn.values())) > 2


def test_every_class_has_its_own_overlay_on_the_page_whatever_is_drawn_beside(
    job: Job, out: Path, page: Path, tmp_path: Path
):
    (folder := tmp_path / "large enough for heat").mkdir()
    (folder / "a.png").write_bytes(as_png(bright_square(300, 260, top=40, left=30, side=90)))
    job, overlays = dataclasses.replace(job, overlays=True), tmp_path / "overlays"
    all_drawn, every = tmp_path / "all.html", dataclasses.replace(job, draw=("dark", "square"))
    score(folder, every, out, overlays=overlays, summary=all_drawn)

    score(folder, job, out, overlays=overlays, summary=page)

    for article in ("class-1", "class-2"):
        assert part(page, article) == part(all_drawn, article)
    assert len(set(re.findall('data:image/webp;base64,([^"]+)', page.read_text()))) == 2


def test_without_overlays_only_the_few_shown_are_read_again(
    job: Job, tmp_path: Path, out: Path, page: Path
):
    for number in range(40):
        write_picture(tmp_path / "many" / f"{number:02}.png", bright=True, size=64 + number)
    watched = Watched()

    score(tmp_path / "many", job, out, watched, summary=page)  # type: ignore[arg-type]

    assert 40 < len(watched.scored) <= 40 + 2 * HIGHEST
    assert page.read_text().count("data:image/webp") == 2 * HIGHEST
    assert not list(tmp_path.glob(".*"))


def test_a_file_that_changed_since_has_no_picture_and_is_not_looked_at(
    films: Path, job: Job, out: Path, page: Path, monkeypatch: pytest.MonkeyPatch
):
    add = Statistics.add

    def change(self, number, file, row):
        add(self, number, file, row)
        if row["file"] == "a.png":
            write_picture(films / "a.png", bright=False, size=99)
            (films / "a" / "inner.png").unlink()

    monkeypatch.setattr(Statistics, "add", change)

    score(films, job, out, summary=page)

    figures = page.read_text().split("<figure>")[1:]
    assert len(figures) == 2 * len(SCORED)
    missing = [figure for figure in figures if "No picture: the file has changed" in figure]
    assert len(missing) == 4
    assert words(part(page, "slowest")).count("not known any more") == 2


@pytest.mark.parametrize("names", [False, True])
def test_a_page_says_what_was_scored_and_how(
    films: Path, job: Job, out: Path, page: Path, names: bool
):
    job = dataclasses.replace(job, include={"modality": ("CR", "DX")}, force=True, batch=2)

    score(films, job, out, summary=page, names=names)

    card, said = load_card(job.models, job.model), words(part(page, "made"))
    for expected in [
        f"square 1.0.0 · SHA-256 {card.sha256}",
        "include modality: CR, DX",
        "scored by force",
        "2 pictures at once",
        "7 files worked on in that time",
    ]:
        assert expected in said
    assert (str(films) in said) == names
    top = words(page)[:600]
    assert "A score is no diagnosis, and a heatmap is no segmentation" in top
    assert "Not a medical device" in top


def test_a_folder_with_one_file_and_one_with_none_have_their_page(
    job: Job, tmp_path: Path, out: Path, page: Path
):
    (tmp_path / "some").mkdir()
    score(tmp_path / "some", job, out, summary=page)
    assert "Scores of 0 files" in words(page)

    write_picture(tmp_path / "some" / "a.png", bright=True)
    score(tmp_path / "some", job, out, summary=page)
    assert "Scores of 1 file " in words(page)
    assert "1 scored 0 could not be scored" in words(page)


def test_a_stopped_run_has_no_page_and_the_one_that_goes_on_has_all_of_it(
    films: Path, job: Job, out: Path, page: Path, tmp_path: Path
):
    score(films, job, tmp_path / "whole.csv", summary=tmp_path / "whole.html")
    with pytest.raises(KeyboardInterrupt):
        score(films, job, out, Watched(stop_after(3, KeyboardInterrupt())), summary=page)  # type: ignore[arg-type]
    assert not page.exists()

    score(films, job, out, summary=page)

    assert words(part(page, "glance")).replace("scores.csv", "whole.csv") == words(
        part(tmp_path / "whole.html", "glance")
    )
    assert part(page, "highest") == part(tmp_path / "whole.html", "highest")


def test_a_run_with_nothing_new_writes_the_page_all_the_same(
    films: Path, job: Job, out: Path, page: Path
):
    score(films, job, out)
    before = out.read_bytes()

    score(films, job, out, summary=page)
    first = page.read_text()
    score(films, job, out, summary=page)

    assert out.read_bytes() == before
    assert "Nothing was new" in first
    assert part(page, "highest") in first
    assert part(page, "glance") in first


def test_a_page_that_cannot_be_written_leaves_the_old_one_and_costs_no_row(
    films: Path, job: Job, out: Path, page: Path, monkeypatch: pytest.MonkeyPatch
):
    page.write_text("of last week")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(run, "write_page", full)
        with pytest.raises(OSError, match="No space"):
            score(films, job, out, summary=page)
    assert page.read_text() == "of last week"
    assert not out.exists()
    again = Watched()

    score(films, job, out, again, summary=page)  # type: ignore[arg-type]

    assert set(again.scored) == set(SCORED)  # for their pictures
    assert "4 scored" in words(page)


def test_a_page_among_the_files_is_not_scored(films: Path, job: Job, out: Path):
    for _ in range(2):
        score(films, job, out, summary=films / "a" / "summary.html")

    assert "Scores of 7 files" in words(films / "a" / "summary.html")


def test_a_page_of_another_suffix_is_refused_before_any_work(films, job: Job, out: Path):
    for name in ("scores.csv", "summary", "summary.pdf"):
        with pytest.raises(BatchError, match=r"ends in \.html"):
            score(films, job, out, summary=out.with_name(name))
    assert not out.exists()


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"&{{ 7*7 }}\u202e.png"


@pytest.mark.parametrize("names", [False, True])
def test_names_and_labels_of_any_letters_are_text_and_nothing_else(
    job: Job, tmp_path: Path, out: Path, page: Path, names: bool
):
    folder = tmp_path / "hostile"
    write_picture(folder / HOSTILE.replace("/", "\u2215"), bright=True)
    (folder / f"x{HOSTILE[:40].replace('/', '')}").write_text("no picture")
    label = "</style><script>alert(3)</script>\"'"
    square_model(job.models, "odd", labels=("plain", label))
    film = make_dicom(make_film(), BodyPartExamined="<B ONLOAD=X>", Modality="DX")
    film.save_as(folder / "film.dcm", enforce_file_format=True)
    square = square_model(job.models, "chest", accepts=Accepts(body_parts=("CHEST",)))

    for model in ("odd", square.name):
        score(folder, dataclasses.replace(job, model=model), out, summary=page, names=names)
        text = page.read_text("utf-8")
        inner = text.partition("</style>")[2]
        tags = Counter(re.findall(r"<\s*/?\s*([a-zA-Z0-9]+)", inner))
        assert not tags.keys() & {"script", "style", "b ", "iframe", "object", "link", "base"}
        assert not re.search(r"<[^>]* on\w+=", inner)
        assert "{{" not in inner.replace("{{ 7*7 }}", "")
        assert (html.escape("{{ 7*7 }}") in inner) == names


def test_the_page_names_no_patient(job: Job, tmp_path: Path, out: Path, page: Path, capfd, caplog):
    folder = tmp_path / "Canary^Patient 19530411"
    folder.mkdir()
    film = make_dicom(
        make_film(),
        PatientName="Canary^Patient",
        PatientID="CANARY",
        PatientBirthDate="19530411",
        StudyDate="19530411",
        InstitutionName="Canary",
    )
    film.save_as(folder / "Canary^Patient-19530411.dcm", enforce_file_format=True)
    film.BodyPartExamined = "KNEE"
    film.save_as(folder / "canary knee.dcm", enforce_file_format=True)
    film.NumberOfFrames = 5
    film.save_as(folder / "canary loop 19530411.dcm", enforce_file_format=True)
    (folder / "CANARY.txt").write_text("Canary^Patient 19530411")
    job, overlays = dataclasses.replace(job, overlays=True), tmp_path / "overlays"

    score(folder, job, out, overlays=overlays, summary=page)

    assert len(list(overlays.iterdir())) == 2
    pictures = [
        base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)\"", page.read_text())
    ]
    assert len(pictures) == 4
    seen = [
        page.read_text().encode(),
        *pictures,
        *(path.name.encode() + path.read_bytes() for path in overlays.iterdir()),
        *(one.encode() for one in capfd.readouterr()),
        caplog.text.encode(),
    ]
    assert not [one for one in seen if re.search(rb"canary|1953-?04-?11", one, re.IGNORECASE)]

    score(folder, job, out, overlays=overlays, summary=page, names=True)
    assert "Canary^Patient-19530411.dcm" in words(page)
