"""Made boxes against drawn ones, in figures and on a contact sheet."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.reading import read_image
from tests.factories import as_png
from tests.training.tiny import sample, sample_list
from training.boxes.report import area_of, compare_boxes, fit_of, markdown, report
from training.boxes.sheet import write_sheet
from training.data.samples import SampleList
from training.errors import ConfigError, DataError

NAMES = ("a.png", "b.png", "c.png", "d.png")


@pytest.fixture
def samples(tmp_path) -> SampleList:
    """Four pictures of 20 x 10 pixels."""
    for name in NAMES:
        (tmp_path / name).write_bytes(as_png(np.full((10, 20), 90, np.uint8)))
    return sample_list(*(sample(name, 0, folder=tmp_path) for name in NAMES))


@pytest.fixture
def drawn(tmp_path) -> Path:
    path = tmp_path / "drawn.csv"
    path.write_text("image,x,y,w,h\na.png,0,0,5,10\na.png,5,0,5,5\nb.png,0,0,10,4\nc.png,0,0,4,4\n")
    return path


@pytest.fixture
def made(tmp_path) -> Path:
    path = tmp_path / "made.csv"
    path.write_text(
        "image,x,y,w,h,method,confidence\na.png,0,0,10,10,border,0.9\nb.png,0,0,10,10,border,0.000\n"
        "c.png,2,2,4,4,border,0.1\nd.png,0,0,1,1,border,0\n"
    )
    return path


boxes = st.lists(
    st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2), min_size=1, max_size=4
)


def corners(rows: list[tuple]) -> np.ndarray:
    return np.array([[x, y, x + w, y + h] for x, y, w, h in rows], float)


@given(boxes, boxes)
def test_fits_are_those_of_the_pixels(one, other):
    canvas = np.zeros((2, 40, 40), bool)
    for n, rows in enumerate((one, other)):
        for x, y, w, h in rows:
            canvas[n, y : y + h, x : x + w] = True
    both = (canvas[0] & canvas[1]).sum()
    whole = sum(bool(canvas[0][y : y + h, x : x + w].all()) for x, y, w, h in other)

    fit = fit_of(corners(one), corners(other), 1600)

    assert fit.iou == pytest.approx(both / canvas.any(0).sum())
    assert fit.covered == pytest.approx(both / canvas[1].sum())
    assert fit.precise == pytest.approx(both / canvas[0].sum())
    assert fit.area == pytest.approx(canvas[0].mean())
    assert area_of(corners(one)) == pytest.approx(canvas[0].sum())
    assert (fit.whole, fit.drawn) == (whole, len(other))


def test_the_comparison_is_on_pictures_that_both_lists_have(samples, made, drawn):
    compared = compare_boxes(made, drawn, samples)

    assert compared.method == "border"
    assert compared.names == ("a.png", "b.png", "c.png")
    assert [fit.iou for fit in compared.fits] == pytest.approx([0.75, 0.4, 4 / 28])
    assert [fit.covered for fit in compared.fits] == pytest.approx([1, 1, 0.25])
    assert [fit.precise for fit in compared.fits] == pytest.approx([0.75, 0.4, 0.25])
    assert [fit.area for fit in compared.fits] == pytest.approx([0.5, 0.5, 0.08])
    assert [(fit.whole, fit.drawn) for fit in compared.fits] == [(2, 2), (1, 1), (0, 1)]
    assert compared.fallbacks == 1


def test_pictures_can_be_left_out(samples, made, drawn, tmp_path):
    (tmp_path / "learned.csv").write_text("image\na.png\nd.png\n")

    compared = compare_boxes(made, drawn, samples, leave_out=tmp_path / "learned.csv")

    assert compared.names == ("b.png", "c.png")


def test_the_table_has_the_figures_and_intervals_that_hold_them(samples, made, drawn):
    compared = compare_boxes(made, drawn, samples)

    table = markdown([compared])

    assert table == markdown([compared])  # seeded
    cells = [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]
    assert cells[:2] == ["border", "3"]
    assert cells[-1] == "1"
    assert [float(cell.split()[0]) for cell in cells[2:-1]] == pytest.approx(
        [0.431, 0.4, 1 / 3, 0.75, 0.75, 0.467, 0.36], abs=1e-3
    )
    for cell in cells[2:-1]:
        value, low, high = (
            float(word) for word in cell.replace("to", "").strip(")").replace("(", "").split()
        )
        assert low <= value <= high
    assert "0.431 (0.143 to 0.750)" in cells


def test_the_page_says_how_it_was_made(samples, made, drawn):
    page = report([compare_boxes(made, drawn, samples)] * 2, drawn, "care boxes compare x")

    assert "```bash\ncare boxes compare x\n```" in page
    assert "3 pictures with 4 drawn boxes" in page
    assert page.count("| border |") == 2


def test_a_list_drawn_by_a_person_is_named_by_its_file(samples, drawn):
    assert compare_boxes(drawn, drawn, samples).method == "drawn"


def test_lists_without_a_common_picture_are_refused(samples, made, tmp_path):
    (tmp_path / "other.csv").write_text("image,x,y,w,h\nb.jpg,0,0,5,10\n")

    with pytest.raises(DataError, match=r"made\.csv and other\.csv have no picture in common"):
        compare_boxes(made, tmp_path / "other.csv", samples)


def test_a_sheet_in_html_shows_every_picture_the_least_sure_first(samples, made, drawn, tmp_path):
    [page] = write_sheet(samples, [made], tmp_path / "s.html", drawn=drawn, workers=0)

    text = page.read_text()
    order = [text.index(name) for name in ("b.png", "d.png", "c.png", "a.png")]
    assert order == sorted(order)
    assert text.count("<img") == text.count("data:image/jpeg;base64,") == 4
    assert "border 0.9" in text
    assert "Green: drawn.csv" in text
    assert "http" not in text


def test_names_on_a_sheet_are_text_and_nothing_else(tmp_path):
    name = "<img src=x>&.png"
    (tmp_path / name).write_bytes(as_png(np.zeros((10, 10), np.uint8)))
    (tmp_path / "made.csv").write_text(f"image,x,y,w,h\n{name},1,1,5,5\n")

    [page] = write_sheet(
        sample_list(sample(name, 0, folder=tmp_path)),
        [tmp_path / "made.csv"],
        tmp_path / "s.html",
        workers=0,
    )

    assert "&lt;img src=x&gt;&amp;.png" in page.read_text()
    assert name not in page.read_text()


def test_a_sheet_in_png_has_pages_of_48_with_the_boxes_in_color(tmp_path):
    names = [f"{n:02}.png" for n in range(50)]
    for name in names:
        (tmp_path / name).write_bytes(as_png(np.full((100, 224), 90, np.uint8)))
    rows = "".join(f"{name},20,10,60,50,border,0.5\n" for name in names)
    (tmp_path / "made.csv").write_text(f"image,x,y,w,h,method,confidence\n{rows}")
    (tmp_path / "drawn.csv").write_text("image,x,y,w,h\n00.png,100,20,50,50\n")
    listed = sample_list(*(sample(name, 0, folder=tmp_path) for name in names))

    pages = write_sheet(
        listed, [tmp_path / "made.csv"], tmp_path / "s.png", drawn=tmp_path / "drawn.csv", workers=0
    )

    assert [page.name for page in pages] == ["s.png", "s-2.png"]
    first, last = (read_image(page).pixels for page in pages)
    assert first.shape[1] == 8 * last.shape[1] // 2
    assert first[10, 40].tolist() == [255, 150, 0]
    assert first[20, 120].tolist() == [60, 220, 60]
    assert first[5, 5].tolist() == [90, 90, 90]
    assert not list(tmp_path.glob("*.part"))


def test_a_confidence_that_is_no_number_is_named(samples, made, tmp_path):
    lines = made.read_text().splitlines()
    head, first = lines[0].split(","), lines[1].split(",")
    first[head.index("confidence")] = "high"
    (tmp_path / "m.csv").write_text(f"{lines[0]}\n{','.join(first)}\n")

    words = r"m\.csv: confidence of .* must be a number, found 'high'"
    with pytest.raises(DataError, match=words):
        write_sheet(samples, [tmp_path / "m.csv"], tmp_path / "s.html", workers=0)
    with pytest.raises(DataError, match=words):
        compare_boxes(tmp_path / "m.csv", made, samples)


def test_a_picture_that_cannot_be_compared_is_named(samples, made, drawn, tmp_path):
    (tmp_path / "b.png").write_bytes(b"nothing")

    with pytest.raises(DataError, match=r"^b\.png: not a picture"):
        compare_boxes(made, drawn, samples)


@pytest.mark.parametrize("outside", ["drawn", "made"])
def test_a_box_outside_its_picture_cannot_be_compared(samples, made, drawn, outside):
    path = {"drawn": drawn, "made": made}[outside]
    with path.open("a") as file:
        file.write("a.png,15,0,10,5\n")  # x0, y0, x1, y1 where w and h are expected

    words = rf"^{path.name}: a\.png: box .* leaves its picture of 20 x 10 pixels"
    with pytest.raises(DataError, match=words):
        compare_boxes(made, drawn, samples)


def test_a_sheet_of_another_kind_is_refused(samples, made, tmp_path):
    with pytest.raises(ConfigError, match=r"s\.pdf: a sheet is \.html or \.png"):
        write_sheet(samples, [made], tmp_path / "s.pdf", workers=0)
