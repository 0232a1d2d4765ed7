"""Lesion boxes made by machine: from saliency to a list of boxes."""

import csv
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from imaging.reading import read_image
from tests.factories import as_png
from tests.training.tiny import sample, sample_list
from training.boxes import pool
from training.boxes.find import OF_PROBABILITY, FoundBox, find_boxes, scaled
from training.boxes.generate import COLUMNS, METHODS, Generator, write_boxes
from training.boxes.pool import map_pictures
from training.boxes.report import fit_of
from training.boxes.saliency import border_contrast
from training.data.samples import Sample, SampleList
from training.data.tables import read_boxes
from training.errors import ConfigError, DataError

SKIN, LESION = (205, 160, 140), (110, 70, 60)


def lesion_picture(
    width: int,
    height: int,
    center: tuple,
    axes: tuple,
    *,
    corners: bool,
    hairs: bool,
    seed: int = 0,
) -> np.ndarray:
    """A dark ellipse on noisy skin, with a dermatoscope's dark corners and hairs if wanted."""
    random = np.random.default_rng(seed)
    picture = np.full((height, width, 3), SKIN, np.float32)
    cv2.ellipse(picture, (center, (2 * axes[0], 2 * axes[1]), 0), LESION, -1)
    picture = cv2.GaussianBlur(picture, (0, 0), 2) + random.normal(0, 8, picture.shape)
    if hairs:
        for _ in range(9):
            ends = random.integers(0, (width, height), (2, 2))
            cv2.line(picture, ends[0].tolist(), ends[1].tolist(), (35, 25, 20), 2)
    if corners:
        y, x = np.mgrid[:height, :width]
        far = np.hypot(x - width / 2, y - height / 2) > 0.56 * max(width, height)
        picture[far] = 12
    return picture.clip(0, 255).astype(np.uint8)


PLACES = [((150, 110), (50, 38)), ((120, 95), (36, 30)), ((175, 130), (60, 45))]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return fit_of(one[None], other[None], 1).iou


@pytest.mark.parametrize("hairs", [False, True])
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize(("center", "axes"), PLACES)
def test_a_dark_lesion_is_found_in_spite_of_dark_corners_and_hairs(center, axes, corners, hairs):
    picture = lesion_picture(300, 225, center, axes, corners=corners, hairs=hairs)

    [found] = Generator(method="border", scale=1)(picture)

    (x, y), (a, b) = center, axes
    assert iou(found.box, np.array([x - a, y - b, x + a, y + b])) > 0.6
    assert 0 < found.confidence <= 1


def test_dark_corners_are_never_salient():
    picture = lesion_picture(300, 225, *PLACES[0], corners=True, hairs=False)

    saliency = border_contrast(picture)

    assert saliency[:12, :12].max() == saliency[-12:, -12:].max() == 0
    assert saliency.max() == 1
    assert saliency[110, 150] > 0.5


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"segment"}))
@pytest.mark.parametrize("shape", [(225, 300, 3), (40, 31), (3, 3), (1, 1), (1, 200, 3)])
def test_a_picture_without_a_lesion_gets_the_central_box_and_no_confidence(method, shape):
    [found] = Generator(method=method)(np.full(shape, 150, np.uint8))

    height, width = shape[:2]
    assert found.confidence == 0
    expected = [0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height]
    np.testing.assert_allclose(found.box, expected)


def blob(*box: int, shape: tuple = (200, 200), value: float = 1.0) -> np.ndarray:
    saliency = np.zeros(shape, np.float32)
    saliency[box[1] : box[3], box[0] : box[2]] = value
    return saliency


def only(found: list[FoundBox]) -> np.ndarray:
    [one] = found
    return one.box


TWO = np.maximum(blob(50, 60, 120, 100), blob(140, 140, 170, 170))


def test_the_largest_blob_is_boxed_to_the_pixel():
    np.testing.assert_array_equal(only(find_boxes(TWO)), [50, 60, 120, 100])


def test_several_boxes_come_largest_first_and_only_as_many_as_there_are():
    found = [one.box.tolist() for one in find_boxes(TWO, most=3)]

    assert found == [[50, 60, 120, 100], [140, 140, 170, 170]]


def test_a_blob_along_the_border_and_a_speck_are_no_lesion():
    along = np.maximum(blob(0, 0, 200, 40), blob(90, 90, 120, 130))
    np.testing.assert_array_equal(only(find_boxes(along)), [90, 90, 120, 130])
    assert find_boxes(blob(0, 0, 200, 40)) == []
    assert find_boxes(blob(100, 100, 112, 112)) == []  # 0.36 % of the picture


def test_a_segmenter_is_believed_along_the_border_and_when_lesions_are_small():
    np.testing.assert_array_equal(
        only(find_boxes(blob(0, 0, 200, 40, value=0.8), OF_PROBABILITY)), [0, 0, 200, 40]
    )
    [small] = find_boxes(blob(100, 100, 112, 112, value=0.7), OF_PROBABILITY)
    assert small.confidence == pytest.approx(0.7)
    assert find_boxes(blob(50, 60, 120, 100, value=0.4), OF_PROBABILITY) == []


@pytest.mark.parametrize(("scale", "box"), [(0.5, [75, 70, 105, 90]), (1.5, [45, 50, 135, 110])])
def test_boxes_are_scaled_about_their_centers(scale, box):
    np.testing.assert_allclose(scaled(np.array([60.0, 60, 120, 100]), scale, 200, 200), box)


def test_a_scaled_box_ends_at_the_border():
    np.testing.assert_allclose(
        scaled(np.array([10.0, 60, 110, 160]), 1.5, 200, 200), [0, 35, 135, 185]
    )


def pictures_in(folder: Path) -> SampleList:
    pictures = {
        "found.png": lesion_picture(300, 225, *PLACES[0], corners=False, hairs=False),
        "more/none.png": np.full((100, 160), 128, np.uint8),
        "other.png": lesion_picture(300, 225, *PLACES[2], corners=True, hairs=True),
    }
    for name, pixels in pictures.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(as_png(pixels))
    return sample_list(*(sample(name, 0, folder=folder) for name in pictures))


def test_a_list_of_boxes_is_written_as_a_person_would_and_marks_the_fallback(tmp_path):
    out = tmp_path / "out" / "boxes.csv"

    fallbacks = write_boxes(pictures_in(tmp_path), Generator(method="border"), out, workers=0)

    with out.open(newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS == ("image", "x", "y", "w", "h", "method", "confidence")
    assert [row[0] for row in rows[1:]] == ["found.png", "more/none.png", "other.png"]
    assert {row[5] for row in rows[1:]} == {"border"}
    assert float(rows[1][6]) > 0
    assert rows[2][1:5] == ["32.0", "20.0", "96.0", "60.0"]
    assert float(rows[2][6]) == 0
    assert fallbacks == 1
    assert [path.name for path in out.parent.iterdir()] == ["boxes.csv"]
    [expected] = Generator(method="border")(read_image(tmp_path / "found.png").pixels)
    np.testing.assert_allclose(read_boxes(out)["found.png"][0], expected.box, atol=0.11)


def test_several_processes_write_what_one_does(tmp_path):
    samples = pictures_in(tmp_path)

    for workers in (0, 2):
        write_boxes(
            samples,
            Generator(method="fine-grained", most=2),
            tmp_path / f"{workers}",
            workers=workers,
        )

    assert (tmp_path / "0").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_process_per_core_that_may_be_used(tmp_path, monkeypatch):
    asked = []

    class Pool(ProcessPoolExecutor):
        def __init__(self, workers: int, *arguments: Any, **options: Any) -> None:
            asked.append(workers)
            super().__init__(1, *arguments, **options)

    monkeypatch.setattr(pool, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(pool, "available_cores", lambda: 3)

    write_boxes(pictures_in(tmp_path), Generator(method="border"), tmp_path / "b.csv")

    assert asked == [3]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_list_of_boxes_is_complete_or_not_there(tmp_path, workers):
    samples = pictures_in(tmp_path)
    (tmp_path / "other.png").write_bytes(b"nothing")

    with pytest.raises(DataError, match=r"other\.png: not a picture"):
        write_boxes(samples, Generator(method="border"), tmp_path / "b.csv", workers=workers)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.png", "more", "other.png"]


@pytest.mark.parametrize("workers", [0, 1])
def test_all_pictures_that_cannot_be_read_are_named_at_once(tmp_path, workers):
    samples = pictures_in(tmp_path)
    for name in ("found.png", "other.png"):
        (tmp_path / name).write_bytes(b"nothing")

    with pytest.raises(DataError, match=r"2 pictures cannot be read: found\.png: .*; other\.png: "):
        write_boxes(samples, Generator(method="border"), tmp_path / "b.csv", workers=workers)


def test_a_list_that_was_there_stays_when_a_new_one_fails(tmp_path):
    samples = pictures_in(tmp_path)
    (tmp_path / "b.csv").write_text("old")
    (tmp_path / "other.png").write_bytes(b"nothing")

    with pytest.raises(DataError):
        write_boxes(samples, Generator(method="border"), tmp_path / "b.csv", workers=0)

    assert (tmp_path / "b.csv").read_text() == "old"


def crash(item: Sample, picture: np.ndarray) -> None:
    assert multiprocessing.parent_process()  # not the tests themselves
    os._exit(1)


def test_a_decoder_that_crashes_is_reported_with_the_picture_from_which_on(tmp_path):
    with pytest.raises(DataError, match=r"a decoder crashed on found\.png or on one of"):
        list(map_pictures(partial(crash), pictures_in(tmp_path), workers=1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "wrong"}, "method 'wrong': expected border, spectral-residual, "),
        ({"method": "segment"}, "the method segment and a segmenter go together"),
        ({"method": "border", "segmenter": Path("m.onnx")}, "go together"),
        ({"method": "lungs", "within_lungs": True}, "lungs cannot be looked for within the lungs"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_before_any_picture(tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        write_boxes(pictures_in(tmp_path), Generator(**settings), tmp_path / "out" / "b.csv")

    assert not (tmp_path / "out").exists()


def test_on_ph2_boxes_scaled_by_a_tenth_fit_those_of_dermatologists(care_data):
    drawn = read_boxes(care_data / "ph2" / "boxes.csv")
    generator = Generator(method="border")

    fits = []
    for name, boxes_of_it in drawn.items():
        [found] = generator(read_image(care_data / "ph2" / "images" / name).pixels)
        fits.append(iou(found.box, boxes_of_it[0]))

    assert len(fits) == 100
    assert np.mean(fits) >= 0.70
