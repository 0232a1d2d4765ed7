"""Small changes of pictures, and how often they change a model's mind."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from imaging.preprocessing import Placement
from models.classifier import Prediction
from training.data.samples import Sample, SampleList
from training.stability import (
    CHANGES,
    framed,
    moved,
    stability,
    stability_markdown,
    stretched,
    windowed,
)


def ramp(height: int = 40, width: int = 60) -> np.ndarray:
    """Brighter to the right, a little more below."""
    y, x = np.mgrid[:height, :width]
    return (50 + 2 * x + y).astype(np.uint8)


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3)])
def test_every_change_is_small_and_is_one(shape):
    pixels = np.random.default_rng(0).integers(40, 200, shape, np.uint8)
    pixels = cv2.GaussianBlur(pixels, (0, 0), 5)

    for name, change in CHANGES.items():
        after = change(pixels)
        assert after.dtype == np.uint8
        assert after.shape[2:] == pixels.shape[2:]
        assert np.allclose(np.divide(after.shape[:2], shape[:2]), 1, atol=0.11), name
        assert after.shape != pixels.shape or (after != pixels).any(), name


def test_no_change_changes_nothing():
    pixels = ramp()
    for change in (moved(), stretched(1), windowed(), framed(0)):
        assert np.array_equal(change(pixels), pixels)


def test_pictures_are_turned_magnified_and_shifted_about_their_center():
    pixels = ramp().astype(float)
    right = moved(shift=0.1)(ramp())
    assert np.array_equal(right[4:, 6:], pixels[:-4, :-6])
    turned = moved(turn=90)(ramp(41, 41))
    assert np.array_equal(turned, np.rot90(ramp(41, 41), -1))
    # in the middle of a ramp half the slope at twice the size
    large = moved(zoom=2)(ramp()).astype(float)
    assert large[20, 31] - large[20, 29] == pytest.approx(2, abs=1)
    assert large[20, 30] == pytest.approx(pixels[20, 30], abs=2)


def test_windows_are_those_of_dicom_on_the_shades():
    shades = np.arange(256, dtype=np.uint8)[None]
    seen = windowed(low=0.05, high=0.95)(shades)[0] / 255
    assert seen == pytest.approx(((shades[0] / 255 - 0.05) / 0.9).clip(0, 1), abs=0.51 / 255)
    darker = windowed(gamma=1.15)(shades)[0].astype(int)
    assert (darker <= shades[0]).all()
    assert darker[128] < 128


def test_a_border_is_black_and_outside():
    framed_picture = framed(0.1)(ramp())
    assert framed_picture.shape == (48, 72)
    assert not framed_picture[:4].any()
    assert np.array_equal(framed_picture[4:-4, 6:-6], ramp())


class Threshold:
    """Calls a picture bright or dark by its mean."""

    card = SimpleNamespace(labels=("dark", "bright"), operating_points={"dark": 0.5, "bright": 0.5})

    def classify(self, images):
        found = []
        for image in images:
            bright = float(image.pixels.mean() > 128)
            found.append(
                Prediction(
                    labels=self.card.labels,
                    probabilities=np.array([1 - bright, bright]),
                    cams=np.zeros((2, 1, 1), np.float32),
                    placement=Placement(1, 1, 0, 0, 1, 1, 1),
                    embedding=np.zeros(1, np.float32),
                )
            )
        return found


def test_flips_are_counted_against_the_unchanged_picture(tmp_path: Path):
    samples = []
    for number, shade in enumerate((60, 125, 131, 200)):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((20, 20), shade, np.uint8))
        box = np.array([[1.0, 1, 5, 5]])  # the changes would move it; attention is not measured
        samples.append(Sample(path.name, path, int(shade > 128), f"patient {number}", box))

    measured = stability(
        Threshold(),  # type: ignore[arg-type]
        SampleList(("dark", "bright"), tuple(samples)),
        resamples=200,
    )

    assert measured["pictures"] == 4
    assert measured["unchanged"] == 1
    assert set(measured["changes"]) == set(CHANGES)
    assert measured["changes"]["turned by 5 degrees"]["flips"]["value"] == 0
    assert measured["changes"]["gray curve brighter"]["flips"]["value"] == 0.25  # 125 only
    darker = measured["changes"]["gray curve darker"]
    assert darker["flips"]["value"] == 0.25  # 131 only
    assert darker["mean_class_accuracy"] == 0.75
    assert darker["flips"]["low"] == 0
    assert darker["flips"]["high"] > 0.25
    assert "| gray curve darker | 0.250 (0.000 to" in stability_markdown(measured)
