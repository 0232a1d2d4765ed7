import base64

import cv2
import numpy as np
import pytest

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
        "overlay": base64.b64encode(image).decode(),
        "media_type": "image/png",
    }
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
        assert answer.content == still.content


def test_monochrome1_and_monochrome2_twins_get_the_same_overlay(client):
    pixels = square(201, 163, 20, 30)
    one, two = (
        explain(client, film(pixels, photometric=name)).content
        for name in ("MONOCHROME1", "MONOCHROME2")
    )

    assert one == two


def test_a_forced_explanation_says_so(client):
    knee = film(square(200, 160, 20, 30), BodyPartExamined="KNEE")

    assert explain(client, knee, model="chest").status_code == 422
    forced = explain(client, knee, model="chest", force="true")
    assert forced.headers["X-Care-Forced"] == "true"
    assert forced.content != explain(client, film(square(200, 160, 20, 30))).content


def test_a_picture_of_one_pixel_is_explained(client):
    answer = explain(client, png(np.full((1, 1), 255, np.uint8)), model="skin", output="heatmap")

    assert decoded(answer.content).shape == (1, 1)
