import base64
from urllib.parse import unquote

import cv2
import numpy as np
import pytest

from tests.models_factory import square_model
from tests.service.pictures import film, jpeg, png, square

CELLS = 14
"""Map cells per side of the test network's square."""


def explain(client, data, **options):
    return client.post("/explain", files={"image": ("name.bin", data)}, data=options)


def decoded(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def from_base64(text: str) -> np.ndarray:
    return decoded(base64.b64decode(text, validate=True))


def hottest(client, data: bytes, max_side: int) -> tuple[float, float, tuple[int, int]]:
    """Where the overlay differs most from the picture without heat: row, column, and its size."""
    options = {"model": "skin", "target": "square", "max_side": max_side}
    cold, hot = (
        decoded(explain(client, data, opacity=opacity, **options).content).astype(int)
        for opacity in (0, 1)
    )
    heat = np.abs(hot - cold).sum(-1).astype(np.float32)
    return *center_of_heat(heat), heat.shape


def center_of_heat(heat: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(heat >= 0.9 * heat.max())
    return rows.mean() + 0.5, columns.mean() + 0.5


SIDE = 64


def wide():
    return png(square(400, 1500, 90, 1200, SIDE)), (400, 1500), (90, 1200)


def tall():
    return png(square(1500, 400, 1200, 90, SIDE)), (1500, 400), (1200, 90)


def odd():
    return png(square(601, 757, 501, 333, SIDE)), (601, 757), (501, 333)


def rotated():
    # Orientation 6: the upright picture is the stored one turned clockwise.
    upright = square(900, 600, 70, 450, SIDE)
    return (
        jpeg(cv2.rotate(upright, cv2.ROTATE_90_COUNTERCLOCKWISE), orientation=6),
        (900, 600),
        (70, 450),
    )


def inverted():
    pixels = square(700, 900, 500, 100, SIDE)
    return film(pixels, photometric="MONOCHROME1", Modality="XC"), (700, 900), (500, 100)


PICTURES = pytest.mark.parametrize("make", [wide, tall, odd, rotated, inverted])


@PICTURES
@pytest.mark.parametrize("max_side", [256, 1024])
def test_the_heat_lies_on_the_square(client, make, max_side):
    data, (height, width), (top, left) = make()

    answer = explain(
        client, data, model="skin", target="square", output="heatmap", max_side=max_side
    )

    heat = decoded(answer.content)
    scale = min(1, max_side / max(height, width))
    cell = max(height, width) * scale / CELLS
    row, column = center_of_heat(heat)
    assert heat.shape == pytest.approx((height * scale, width * scale), abs=1)
    assert row == pytest.approx((top + SIDE / 2) * scale, abs=cell)
    assert column == pytest.approx((left + SIDE / 2) * scale, abs=cell)


@PICTURES
@pytest.mark.parametrize("max_side", [256, 1024])
def test_the_overlay_is_hottest_on_the_square(client, make, max_side):
    data, (height, width), (top, left) = make()

    row, column, shape = hottest(client, data, max_side)

    scale = min(1, max_side / max(height, width))
    cell = max(height, width) * scale / CELLS
    assert shape[1] == pytest.approx(width * scale, abs=1)
    assert row == pytest.approx((top + SIDE / 2) * scale, abs=cell)
    assert column == pytest.approx((left + SIDE / 2) * scale, abs=cell)


def test_the_overlay_is_a_png_that_says_what_it_shows(client, picture):
    answer = explain(client, picture, model="skin")

    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Care-Model"] == "skin"
    assert answer.headers["X-Care-Target"] == "square"
    assert float(answer.headers["X-Care-Peak"]) > 0
    assert answer.headers["X-Care-Forced"] == "false"
    assert decoded(answer.content).ndim == 3


def test_the_heatmap_is_gray_and_white_at_its_peak(client, picture):
    heat = decoded(explain(client, picture, model="skin", output="heatmap").content)

    assert heat.shape == (300, 500)
    assert heat.max() == 255


def test_json_is_the_classify_answer_with_peak_and_overlay(client, picture):
    plain = client.post("/classify", files={"image": picture}, data={"model": "skin"}).json()
    report = explain(client, picture, model="skin", output="json").json()
    image = explain(client, picture, model="skin").content

    assert {**report, "request_id": ""} == {
        **plain,
        "request_id": "",
        "target": "square",
        "peak": report["peak"],
        "overlay": report["overlay"],
        "media_type": "image/png",
        "shown": None,
    }
    assert np.array_equal(from_base64(report["overlay"]), decoded(image))
    assert report["peak"] > 0


def test_layers_are_the_picture_and_the_heat_of_every_label(client, picture):
    report = explain(client, picture, model="skin", output="layers").json()

    assert np.array_equal(from_base64(report["picture"]), decoded(picture))
    assert [layer["label"] for layer in report["layers"]] == [
        entry["label"] for entry in report["predictions"]
    ]
    heat = from_base64(report["layers"][0]["heatmap"])
    row, column = center_of_heat(heat)
    assert row / heat.shape[0] == pytest.approx(84 / 300, abs=0.1)
    assert column / heat.shape[1] == pytest.approx(444 / 500, abs=0.1)


@pytest.mark.parametrize("output", ["overlay", "heatmap", "json", "layers"])
def test_without_positive_evidence_there_is_no_heat(client, picture, output):
    answer = explain(client, picture, model="skin", target="nevus", output=output)

    if output == "layers":
        layer = next(one for one in answer.json()["layers"] if one["label"] == "nevus")
        assert layer["peak"] == 0
        assert not from_base64(layer["heatmap"]).any()
    elif output == "json":
        assert answer.json()["peak"] == 0
    else:
        assert answer.headers["X-Care-Peak"] == "0"
    if output == "heatmap":
        assert not decoded(answer.content).any()
    if output == "overlay":
        # the very pixels of the picture, but for the words on it
        still = explain(client, picture, model="skin", target="nevus", opacity=1)
        assert np.array_equal(decoded(answer.content), decoded(still.content))


def test_monochrome1_and_monochrome2_twins_get_the_same_overlay(client):
    pixels = square(201, 163, 20, 30)
    one, two = (
        decoded(explain(client, film(pixels, photometric=name)).content)
        for name in ("MONOCHROME1", "MONOCHROME2")
    )

    assert np.array_equal(one, two)


def test_a_forced_explanation_says_so(client):
    knee = film(square(200, 160, 20, 30), BodyPartExamined="KNEE")

    assert explain(client, knee, model="chest").status_code == 422
    forced = explain(client, knee, model="chest", force="true")
    assert forced.headers["X-Care-Forced"] == "true"
    plain = explain(client, film(square(200, 160, 20, 30)))
    assert not np.array_equal(decoded(forced.content), decoded(plain.content))


def test_a_picture_of_one_pixel_is_explained(client):
    answer = explain(client, png(np.full((1, 1), 255, np.uint8)), model="skin", output="heatmap")

    assert decoded(answer.content).shape == (1, 1)


@pytest.mark.parametrize(
    ("format", "magic"), [("png", b"\x89PNG"), ("jpeg", b"\xff\xd8\xff"), ("webp", b"RIFF")]
)
@pytest.mark.parametrize("output", ["overlay", "heatmap"])
def test_pictures_come_in_the_format_asked_for(client, picture, format, magic, output):
    options = {"model": "skin", "output": output}
    png = decoded(explain(client, picture, **options).content).astype(int)

    answer = explain(client, picture, format=format, **options)

    assert answer.headers["Content-Type"] == f"image/{format}"
    assert answer.content.startswith(magic)
    other = decoded(answer.content)
    other = other if other.ndim == png.ndim else other[..., 0]  # WebP knows no gray
    assert np.abs(other - png).mean() < 3


def test_an_overlay_in_json_says_its_format(client, picture):
    report = explain(client, picture, model="skin", output="json", format="webp").json()

    assert report["media_type"] == "image/webp"
    assert base64.b64decode(report["overlay"])[8:12] == b"WEBP"


def test_several_targets_are_drawn_side_by_side_as_they_are_alone(client, picture):
    targets = ["square", "nevus"]
    alone = [decoded(explain(client, picture, model="skin", target=one).content) for one in targets]

    answer = explain(client, picture, model="skin", target=targets)

    np.testing.assert_array_equal(decoded(answer.content), np.hstack(alone))
    assert answer.headers["X-Care-Target"] == "square,nevus"
    assert answer.headers["X-Care-Peak"].endswith(",0")
    assert answer.headers["X-Care-Found"] == "true,false"


def test_names_of_any_letters_are_told_in_headers_that_can_be_taken_apart(serve_here, tmp_path):
    labels = ("gut, wohl", "größer/kleiner")
    square_model(tmp_path, "Größe", labels=labels)
    data = png(square(300, 500, 60, 420))

    answer = explain(serve_here(tmp_path), data, model="Größe", target=labels)

    assert unquote(answer.headers["X-Care-Model"]) == "Größe"
    told = answer.headers["X-Care-Target"].split(",")
    assert tuple(map(unquote, told)) == labels


def test_pictures_too_many_to_be_sent_side_by_side_are_refused_or_sent_apart(serve_here, tmp_path):
    labels = [f"label-{number}" for number in range(16)]
    square_model(tmp_path, "many", labels=tuple(labels))
    client = serve_here(tmp_path)
    wide = film(square(64, 4096, 8, 8), StudyInstanceUID="1.2.3")

    def answer(count, **options):
        return explain(client, wide, model="many", target=labels[:count], max_side=4096, **options)

    for count, options, most in (
        (4, {"format": "webp"}, "webp has 16383"),
        (16, {"format": "jpeg", "output": "heatmap"}, "jpeg has 65500"),
        (16, {"output": "dicom"}, "dicom has 65535"),
    ):
        refused, fewer = answer(count, **options), answer(count - 1, **options)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (400, "bad_option")
        assert f"{4096 * count} pixels wide, {most} at most" in error["message"]
        assert fewer.status_code == 200
    assert decoded(answer(16, output="heatmap").content).shape == (64, 65536)
    assert len(answer(16, output="json", format="webp").json()["explanations"]) == 16


def test_several_targets_in_json_are_one_explanation_each(client, picture):
    targets = ["nevus", "square"]

    report = explain(client, picture, model="skin", target=targets, output="json").json()

    alone = [
        explain(client, picture, model="skin", target=one, output="json").json() for one in targets
    ]
    keys = ("target", "peak", "media_type")
    for told, one in zip(report["explanations"], alone, strict=True):
        assert told == {key: one[key] for key in keys} | {"overlay": told["overlay"]}
        assert np.array_equal(from_base64(told["overlay"]), from_base64(one["overlay"]))
    assert report["predictions"] == alone[0]["predictions"]


@pytest.mark.parametrize(
    ("targets", "status"),
    [(["square", "square"], 400), (["square", "measles"], 404), (["square"] * 17, 400)],
    ids=["twice", "unknown", "too many"],
)
def test_wrong_lists_of_targets_are_refused(client, picture, targets, status):
    assert explain(client, picture, model="skin", target=targets).status_code == status


def test_a_label_below_its_operating_point_is_marked_on_the_picture(client, models_folder):
    faint = np.full((300, 500), 35, np.uint8)  # a little evidence everywhere
    answer = explain(client, png(faint), model="skin", target="square")

    assert answer.headers["X-Care-Found"] == "false"
    assert float(answer.headers["X-Care-Peak"]) > 0
    legend = decoded(answer.content)[-90:, :260].max(-1)
    rows = np.flatnonzero((legend > 200).any(axis=1))
    lines = 1 + np.count_nonzero(np.diff(rows) > 3)
    found = explain(client, png(square(300, 500, 60, 420)), model="skin", target="square")
    rows = np.flatnonzero((decoded(found.content)[-90:, :260].max(-1) > 200).any(axis=1))
    assert found.headers["X-Care-Found"] == "true"
    assert lines == 1 + np.count_nonzero(np.diff(rows) > 3) + 1  # one line more than without


def test_the_overlay_is_drawn_in_the_colors_and_as_strongly_as_asked_for(client, picture):
    options = {"model": "skin", "target": "square", "max_side": 512}
    heat = decoded(explain(client, picture, output="heatmap", **options).content)
    hottest = np.unravel_index(heat.argmax(), heat.shape)
    plain = float(decoded(picture)[hottest])

    for name, code in (("turbo", cv2.COLORMAP_TURBO), ("hot", cv2.COLORMAP_HOT)):
        color = cv2.applyColorMap(np.array([[255]], np.uint8), code)[0, 0]
        for opacity in (0.2, 0.7):
            answer = explain(client, picture, colormap=name, opacity=opacity, **options)
            expected = (1 - opacity) * plain + opacity * color
            np.testing.assert_allclose(decoded(answer.content)[hottest], expected, atol=2)


def test_contours_leave_the_picture_between_the_lines(client, picture):
    options = {"model": "skin", "target": "square", "max_side": "512"}
    heat, lines = (
        decoded(explain(client, picture, style=style, opacity=1, **options).content)
        for style in ("heat", "contour")
    )
    plain = decoded(picture)

    changed = [(one != plain[..., None]).any(-1)[:200].mean() for one in (heat, lines)]
    assert 0 < changed[1] < changed[0] / 2


@pytest.mark.parametrize("inverted", [False, True])
def test_the_answer_says_whether_small_values_are_the_bright_ones(client, inverted):
    data = film(square(200, 160, 20, 30), photometric=f"MONOCHROME{1 if inverted else 2}")

    report = explain(client, data, output="json").json()

    assert report["image"]["voi"]["inverted"] == report["shown"]["inverted"] == inverted


WINDOWED = {"WindowCenter": [128, 40], "WindowWidth": [256, 60]}


def test_a_display_window_changes_the_picture_and_never_the_answer(client):
    faded = np.where(square(200, 160, 20, 30) > 0, 180, 40).astype(np.uint8)
    data = film(faded, **WINDOWED)
    plain, shown = (
        explain(client, data, model="chest", output="layers", **options).json()
        for options in ({}, {"window_center": "100", "window_width": "30"})
    )

    assert shown["predictions"] == plain["predictions"]
    for one, other in zip(shown["layers"], plain["layers"], strict=True):
        assert one | {"heatmap": ""} == other | {"heatmap": ""}
        assert np.array_equal(from_base64(one["heatmap"]), from_base64(other["heatmap"]))
    assert set(np.unique(from_base64(shown["picture"]))) == {0, 255}
    np.testing.assert_array_equal(from_base64(plain["picture"]), faded)


def test_of_several_windows_one_can_be_chosen_for_model_and_people(client):
    faded = np.where(square(200, 160, 20, 30) > 0, 60, 20).astype(np.uint8)
    data = film(faded, **WINDOWED)
    first, second = (
        explain(client, data, model="chest", output="layers", window=window).json()
        for window in ("1", "2")
    )

    assert (first["image"]["window"], second["image"]["window"]) == (1, 2)
    assert first["predictions"] != second["predictions"]
    assert from_base64(second["picture"]).max() > from_base64(first["picture"]).max()


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (film(square(200, 160, 20, 30), **WINDOWED), {"window": "3"}, "has 2 windows"),
        (png(square(200, 160, 20, 30)), {"window": "1"}, "a PNG has no windows"),
        (png(square(99, 99, 9, 9)), {"window_center": "1", "window_width": "2"}, "no windows"),
        (png(square(99, 99, 9, 9)), {"window_center": "1"}, "together"),
        (png(square(99, 99, 9, 9)), {"window_center": "nan", "window_width": "2"}, "window_center"),
        (png(square(99, 99, 9, 9)), {"window_center": "1", "window_width": "0"}, "window_width"),
    ],
)
def test_a_window_that_cannot_be_is_refused(client, data, options, words):
    answer = explain(client, data, model="chest", **options)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_option"
    assert words in answer.json()["error"]["message"]
