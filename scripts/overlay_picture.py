"""Draw docs/overlay.png: a model's overlay on a generated picture, as no real one may be shown.

python -m scripts.overlay_picture dermoscopy
python -m scripts.overlay_picture MODEL --models DIR --out FILE
"""

import argparse
from pathlib import Path

import numpy as np

from imaging.image import Facts, MedicalImage
from imaging.overlay import encode, overlay
from models.store import load_one, shipped_models
from scripts.made_up import generated_lesion
from service.remarks import remarks


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--models", type=Path, default=shipped_models())
    parser.add_argument("--label", help="the label to explain; the most probable one by default")
    parser.add_argument("--out", type=Path, default=Path("docs/overlay.png"))
    options = parser.parse_args()

    pixels = generated_lesion()
    height, width = pixels.shape[:2]
    picture = MedicalImage(pixels, Facts(kind="png", width=width, height=height))
    classifier = load_one(options.models, options.model)
    [prediction] = classifier.classify([picture])
    label = options.label or prediction.top
    heatmap, peak = prediction.heatmap(label)
    notes = remarks(prediction, label, classifier.card, forced=False)
    drawn = overlay(pixels, heatmap, peak=peak, label=label, notes=notes)
    options.out.write_bytes(encode(np.hstack([pixels, drawn])))


if __name__ == "__main__":
    main()
