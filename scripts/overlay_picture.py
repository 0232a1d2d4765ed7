"""Draw docs/overlay.png: a model's overlay on a generated picture, as no real one may be shown.

python scripts/overlay_picture.py chest-xray
python scripts/overlay_picture.py MODEL --models DIR --out FILE
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from imaging.image import Facts, MedicalImage
from imaging.overlay import encode_png, overlay
from models.store import load_one, shipped_models

HEIGHT, WIDTH = 410, 460


def generated_film() -> np.ndarray:
    """Something a little like a chest film with a dense patch in one lung; uint8 (H, W)."""
    film = np.full((HEIGHT, WIDTH), 10, np.float32)
    cv2.ellipse(film, (230, 270), (212, 260), 0, 0, 360, 115, -1)  # body
    for x, tilt in ((138, 8), (322, -8)):
        cv2.ellipse(film, (x, 212), (74, 145), tilt, 0, 360, 40, -1)  # lung
    cv2.ellipse(film, (258, 290), (64, 72), 20, 0, 360, 125, -1)  # heart
    film = cv2.GaussianBlur(film, (0, 0), 8).astype(np.float32)
    bones = np.zeros_like(film)
    for y in range(96, 360, 33):
        for x in (138, 322):
            cv2.ellipse(bones, (x, y + 38), (96, 48), 0, 195, 345, 24, 6)  # rib
    cv2.line(bones, (230, 0), (230, HEIGHT), 18, 28)  # spine
    film += cv2.GaussianBlur(bones, (0, 0), 3)
    patch = np.zeros_like(film)
    cv2.ellipse(patch, (128, 268), (32, 26), 30, 0, 360, 150, -1)
    film += cv2.GaussianBlur(patch, (0, 0), 9)
    return film.clip(0, 255).astype(np.uint8)


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--models", type=Path, default=shipped_models())
    parser.add_argument("--label", help="the label to explain; the most probable one by default")
    parser.add_argument("--out", type=Path, default=Path("docs/overlay.png"))
    options = parser.parse_args()

    film = generated_film()
    picture = MedicalImage(film, Facts(kind="png", width=WIDTH, height=HEIGHT))
    [prediction] = load_one(options.models, options.model).classify([picture])
    label = options.label or prediction.top
    heatmap, peak = prediction.heatmap(label)
    drawn = overlay(film, heatmap, peak=peak, label=label)
    options.out.write_bytes(encode_png(np.hstack([np.dstack([film] * 3), drawn])))


if __name__ == "__main__":
    main()
