"""A segmenter fitted to the boxes or masks of planted lesions."""

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from imaging.preprocessing import Preprocessing
from imaging.reading import read_image
from models.segmenter import Segmenter
from tests.factories import as_png
from tests.lesion_factory import SIDE, lesion_set
from tests.training.tiny import sample, sample_list
from training.boxes import unet
from training.boxes.fit import (
    Lesson,
    _lesson,
    augmented,
    ellipses,
    fit_segmenter,
    fit_unet,
    mask_of,
    segmentation_loss,
)
from training.boxes.generate import Generator
from training.boxes.report import area_of, fit_of
from training.boxes.unet import UNet, export_unet
from training.config import DataSettings
from training.data.layouts import load_samples
from training.data.samples import SampleList
from training.data.tables import read_boxes
from training.errors import ConfigError, DataError, ExportError


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """52 discs with boxes and masks."""
    folder = lesion_set(tmp_path_factory.mktemp("planted"), counts={"disc": 52})
    (folder / "masks").mkdir()
    for name, [(x0, y0, x1, y1)] in read_boxes(folder / "boxes.csv").items():
        mask = np.zeros((SIDE, SIDE), np.uint8)
        cv2.circle(mask, (int(x0 + x1) // 2, int(y0 + y1) // 2), 8, 255, -1)
        (folder / "masks" / f"{Path(name).stem}_segmentation.png").write_bytes(as_png(mask))
    return folder


def samples_of(folder: Path) -> SampleList:
    return load_samples(DataSettings(root=str(folder), boxes="boxes.csv"))


@pytest.mark.parametrize("masks", [False, True])
def test_lesions_of_pictures_it_never_saw_are_boxed(planted, tmp_path, masks):
    samples = samples_of(planted)
    learned = SampleList(samples.labels, samples.samples[:40])
    where = planted / "masks" if masks else None

    fit_segmenter(learned, tmp_path / "m.onnx", masks=where, size=64, steps=60, workers=0)

    generator = Generator(method="segment", segmenter=tmp_path / "m.onnx")
    ious = []
    for item in samples.samples[40:]:
        [found] = generator(read_image(item.path).pixels)
        ious.append(fit_of(found.box[None], item.boxes, 1).iou)
    assert len(ious) == 12
    assert np.mean(ious) > 0.6


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    one, same, other = (
        torch.cat(
            [weight.flatten() for weight in fit_unet(lessons(), steps=3, seed=seed)[0].parameters()]
        )
        for seed in (0, 0, 1)
    )

    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def lessons(count: int = 6) -> list[Lesson]:
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    lesion = np.zeros((32, 32), np.float32)
    lesion[8:20, 10:24] = 1
    return [Lesson(picture, lesion, np.ones_like(lesion)) for picture in pictures]


def test_the_file_does_what_the_network_does(tmp_path):
    network, _ = fit_unet(lessons(), steps=4, seed=0)
    pictures = [lesson.picture for lesson in lessons()]

    apart = export_unet(network, 32, tmp_path / "m.onnx", pictures=pictures)

    with torch.no_grad():
        expected = network.cpu().double()(torch.from_numpy(np.stack(pictures))).sigmoid().numpy()
    found = Segmenter.load(tmp_path / "m.onnx").run(np.stack(pictures))
    assert found.shape == (6, 32, 32)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert apart < 1e-4


def test_a_file_that_differs_from_the_network_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(Segmenter, "run", lambda self, images: np.full(images.shape[:3], 0.5))

    with pytest.raises(ExportError, match="the graph differs from the float64 network"):
        export_unet(UNet(), 32, tmp_path / "m.onnx", pictures=[])

    assert list(tmp_path.iterdir()) == []


def test_a_uniform_picture_gives_numbers():
    with torch.no_grad():
        logits = UNet()(torch.full((2, 32, 32, 3), 7, dtype=torch.uint8))

    assert logits.shape == (2, 32, 32)
    assert logits.isfinite().all()


def test_an_ellipse_fills_its_box_and_its_corners_are_not_known():
    lesion, known = ellipses(np.array([[8.0, 12, 40, 28]]), 64)

    rows, columns = np.flatnonzero((lesion > 0.4).any(1)), np.flatnonzero((lesion > 0.4).any(0))
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (8, 12, 40, 28)
    assert lesion.sum() == pytest.approx(np.pi * 16 * 8, rel=0.03)
    assert known[13, 9] == 0  # a corner
    assert known[20, 24] == known[2, 2] == known[20, 50] == 1
    assert area_of(np.array([[8.0, 12, 40, 28]])) - known.size + known.sum() == pytest.approx(
        np.pi * 16 * 8, rel=0.15
    )


def test_of_several_boxes_each_has_its_ellipse():
    lesion, known = ellipses(np.array([[4.0, 4, 20, 20], [30, 30, 60, 60]]), 64)

    assert lesion[12, 12] == lesion[45, 45] == 1
    assert lesion[25, 25] == 0
    assert known[25, 25] == 1
    assert known[31, 31] == 0


def test_the_loss_is_cross_entropy_plus_dice_of_the_known_pixels():
    random = np.random.default_rng(0)
    logits, lesion = random.normal(size=(2, 4, 4)), random.random((2, 4, 4))
    known = (random.random((2, 4, 4)) > 0.3).astype(float)
    p = 1 / (1 + np.exp(-logits))
    entropy = -(lesion * np.log(p) + (1 - lesion) * np.log(1 - p))
    expected = (entropy * known).sum() / known.sum()
    for one, true, sure in zip(p, lesion, known, strict=True):
        shared = (one * true * sure).sum()
        expected += (1 - (2 * shared + 1) / ((one * sure).sum() + (true * sure).sum() + 1)) / 2

    loss = segmentation_loss(*(torch.from_numpy(array) for array in (logits, lesion, known)))

    assert float(loss) == pytest.approx(expected)
    unknown = torch.from_numpy(np.where(known, logits, 50.0))
    assert float(segmentation_loss(unknown, *map(torch.from_numpy, (lesion, known)))) == (
        pytest.approx(expected)
    )


def test_picture_and_lesion_move_together():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[20:36, 24:44] = 255
    lesson = Lesson(picture, picture[..., 0] / np.float32(255), np.ones((64, 64), np.float32))
    random = np.random.default_rng(0)

    moved = [augmented(lesson, random) for _ in range(8)]

    for one in moved:
        bright = one.picture[..., 0] > 127
        assert ((one.lesion > 0.5) ^ bright).sum() < 0.1 * bright.sum()
        assert one.picture.dtype == np.uint8
        assert one.lesion.dtype == one.known.dtype == np.float32
    assert len({one.lesion.sum() for one in moved}) == 8


@pytest.mark.parametrize("name", ["{}.png", "{}.bmp", "{}_segmentation.png", "{}_mask.jpg"])
def test_a_mask_is_found_by_its_pictures_name(tmp_path, name):
    item = sample("more/a[1]*b.dcm", 0)
    path = tmp_path / "more" / name.format("a[1]*b")
    path.parent.mkdir()
    path.touch()
    (tmp_path / "more" / "a1b.png").touch()

    assert mask_of(item, tmp_path) == path
    assert mask_of(sample("more/a[1].dcm", 0), tmp_path) is None


def test_a_mask_of_another_size_is_refused(tmp_path):
    (tmp_path / "masks").mkdir()
    names = [f"{n}.png" for n in range(5)]
    for name in names:
        (tmp_path / name).write_bytes(as_png(np.zeros((40, 30), np.uint8)))
        (tmp_path / "masks" / name).write_bytes(as_png(np.zeros((30, 40), np.uint8)))
    samples = sample_list(*(sample(name, 0, folder=tmp_path) for name in names))

    with pytest.raises(
        DataError, match=r"0\.png: its mask has 40 x 30 pixels, the picture 30 x 40"
    ):
        fit_segmenter(samples, tmp_path / "m.onnx", masks=tmp_path / "masks", workers=0)


def test_masks_of_0_and_1_are_masks_and_empty_ones_say_that_there_is_no_lesion(tmp_path):

    random = np.random.default_rng(0)
    (tmp_path / "masks").mkdir()
    mask = np.zeros((40, 40), np.uint8)
    (tmp_path / "masks" / "none.png").write_bytes(as_png(mask))
    mask[10:20, 10:30] = 1
    (tmp_path / "masks" / "some.png").write_bytes(as_png(mask))
    picture = random.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    fitting = Preprocessing(size=32, fit="squash", color="rgb")

    none, some = (
        _lesson(tmp_path / "masks", fitting, sample(f"{name}.jpg", 0), picture)
        for name in ("none", "some")
    )

    assert none.lesion.sum() == 0
    assert some.lesion.sum() == pytest.approx(200 * 0.64, rel=0.02)
    assert none.known.min() == some.known.min() == 1


def test_too_few_pictures_and_a_wrong_size_are_refused(planted, tmp_path):
    samples = samples_of(planted)
    few = SampleList(samples.labels, samples.samples[:4])

    with pytest.raises(DataError, match="4 of 4 pictures have boxes; expected 5 or more"):
        fit_segmenter(few, tmp_path / "m.onnx", workers=0)
    with pytest.raises(DataError, match="0 of 52 pictures have masks in"):
        fit_segmenter(samples, tmp_path / "m.onnx", masks=tmp_path, workers=0)
    with pytest.raises(ConfigError, match="size 100: expected a multiple of 32"):
        fit_segmenter(samples, tmp_path / "m.onnx", size=100, workers=0)


def test_a_box_outside_its_picture_is_nothing_to_learn_from(planted, tmp_path):
    samples = samples_of(planted)
    moved = tuple(replace(item, boxes=item.boxes + SIDE) for item in samples.samples)

    with pytest.raises(DataError, match=r"disc-000\.png: box .* leaves its picture"):
        fit_segmenter(SampleList(samples.labels, moved), tmp_path / "m.onnx", workers=0)


def test_the_stride_is_that_of_the_network():
    assert unet.STRIDE == 32
    with torch.no_grad():
        assert UNet()(torch.zeros(1, 96, 96, 3, dtype=torch.uint8)).shape == (1, 96, 96)


def test_boxes_of_a_csv_with_few_rows_are_all_that_is_learned_from(planted, tmp_path, monkeypatch):
    monkeypatch.setattr("training.boxes.fit.export_unet", lambda *_, **__: None)
    with (planted / "boxes.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    few = tmp_path / "few.csv"
    with few.open("w", newline="") as file:
        csv.writer(file).writerows(rows[:8])
    samples = load_samples(DataSettings(root=str(planted), boxes=str(few)))

    learned, _ = fit_segmenter(samples, tmp_path / "m.onnx", size=32, steps=10, workers=0)

    assert learned == 7
