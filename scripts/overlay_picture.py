"""Draw docs/overlay.png: a model's overlay on a generated picture, as no real one may be shown.

python scripts/overlay_picture.py dermoscopy
python scripts/overlay_picture.py MODEL --models DIR --out FILE
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from imaging.image import Facts, MedicalImage
from imaging.overlay import encode, overlay
from models.store import load_one, shipped_models

HEIGHT, WIDTH = 360, 440


def generated_lesion(seed: int = 2) -> np.ndarray:
    """Something a little like a dermoscopic picture of a dark lesion; uint8 RGB (H, W, 3)."""
    random = np.random.default_rng(seed)

    def clouds(size: float) -> np.ndarray:
        noise = random.normal(size=(HEIGHT, WIDTH, 1)).astype(np.float32)
        return cv2.GaussianBlur(noise, (0, 0), size)[..., None] * size * 3.5

    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)[..., None]
    skin = np.array([208, 155, 142]) + 7 * clouds(30)
    radius = np.hypot((x - 235) / 1.25, y - 185) + 9 * clouds(14) + 2 * clouds(5)
    inside, core = (1 / (1 + np.exp((radius - r) / soft)) for r, soft in ((82, 5), (40, 14)))
    lesion = (np.array([125, 74, 52]) + 12 * clouds(6)) * (1 - 0.5 * core)
    picture = skin * (1 - inside) + lesion * inside + random.normal(size=(HEIGHT, WIDTH, 3)) * 3
    return cv2.GaussianBlur(picture.clip(0, 255).astype(np.uint8), (0, 0), 0.8)


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--models", type=Path, default=shipped_models())
    parser.add_argument("--label", help="the label to explain; the most probable one by default")
    parser.add_argument("--out", type=Path, default=Path("docs/overlay.png"))
    options = parser.parse_args()

    pixels = generated_lesion()
    picture = MedicalImage(pixels, Facts(kind="png", width=WIDTH, height=HEIGHT))
    [prediction] = load_one(options.models, options.model).classify([picture])
    label = options.label or prediction.top
    heatmap, peak = prediction.heatmap(label)
    drawn = overlay(pixels, heatmap, peak=peak, label=label)
    options.out.write_bytes(encode(np.hstack([pixels, drawn])))


if __name__ == "__main__":
    main()
