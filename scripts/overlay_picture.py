"""Draw docs/overlay.png: a model's overlay on a generated picture, as no real one may be shown.

python -m scripts.overlay_picture dermoscopy
python -m scripts.overlay_picture MODEL --models DIR DIR --seeds 2 3 4 --label mel --out FILE
"""

import argparse
from pathlib import Path

import numpy as np

from imaging.image import Facts, MedicalImage
from imaging.overlay import encode, overlay
from models.classifier import Classifier
from models.store import load_one, shipped_models
from scripts.made_up import generated_lesion
from service.remarks import remarks


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument(
        "--models", type=Path, nargs="+", default=[shipped_models()], help="a column for each"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[2], help="a picture for each")
    parser.add_argument("--label", help="the label to explain; the most probable one by default")
    parser.add_argument("--out", type=Path, default=Path("docs/overlay.png"))
    options = parser.parse_args()

    classifiers = [load_one(folder, options.model) for folder in options.models]
    pictures = [generated_lesion(seed) for seed in options.seeds]
    rows = [
        np.hstack([pixels, *(drawn(pixels, one, options.label) for one in classifiers)])
        for pixels in pictures
    ]
    options.out.write_bytes(encode(np.vstack(rows)))


def drawn(pixels: np.ndarray, classifier: Classifier, label: str | None) -> np.ndarray:
    """The overlay that the service draws of a picture, uint8 (height, width, 3)."""
    height, width = pixels.shape[:2]
    picture = MedicalImage(pixels, Facts(kind="png", width=width, height=height))
    [prediction] = classifier.classify([picture])
    label = label or prediction.top
    heatmap, peak = prediction.heatmap(label)
    notes = remarks(prediction, label, classifier.card, forced=False)
    return overlay(pixels, heatmap, peak=peak, label=label, notes=notes)


if __name__ == "__main__":
    main()
