"""How many boxes must be drawn? Fits a U-Net to some of them and measures it on the others.

    python -m scripts.boxes_from_few DATA/ph2 20 50 80 --report benchmarks/reports/boxes-ph2-few.md

For each number and each seed: draw so many pictures, fit to their boxes as `care boxes fit` does,
make boxes for the others, compare. The whole takes about a minute per fit on two cores.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from training.boxes.fit import fit_segmenter
from training.boxes.generate import Generator, write_boxes
from training.boxes.report import compare_boxes
from training.config import DataSettings
from training.data.layouts import load_samples
from training.data.samples import SampleList
from training.markdown import table


def iou_on_others(
    samples: SampleList, drawn: Path, count: int, seed: int, method: str
) -> tuple[float, float]:
    """Mean and median IoU on all pictures but `count` drawn by the seed, which are learned from."""
    names = sorted(item.name for item in samples.samples)
    learned = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
    with TemporaryDirectory() as folder:
        model, made = Path(folder) / "lesions.onnx", Path(folder) / "made.csv"
        if method == "segment":
            fit_segmenter(samples.subset(learned), model, seed=seed)
            generator = Generator(method=method, segmenter=model)
        else:
            generator = Generator(method=method)
        others = samples.subset(set(names) - learned)
        write_boxes(others, generator, made)
        ious = [fit.iou for fit in compare_boxes(made, drawn, others).fits]
    return float(np.mean(ious)), float(np.median(ious))


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder with labels.csv, images/ and boxes.csv")
    parser.add_argument("counts", type=int, nargs="+", help="how many pictures to learn from")
    parser.add_argument("--seeds", type=int, default=3, help="draws of each number")
    parser.add_argument("--report", type=Path, required=True, help="page to write")
    options = parser.parse_args()
    drawn = options.data / "boxes.csv"
    samples = load_samples(DataSettings(root=str(options.data), boxes=drawn.name))
    lines = [
        "# Boxes for all from boxes for few",
        "",
        f"```bash\npython -m scripts.boxes_from_few {' '.join(sys.argv[1:])}\n```",
        "",
        "A U-Net fitted to the boxes of some pictures (`care boxes fit`, its defaults), measured",
        f"on the others of {len(samples.samples)}; mean IoU (median) per seed, which draws the",
        "pictures as well. In the last column, `border` on the same others, which learns nothing.",
        "",
    ]
    head = ["learned from", "measured on", "segment, by seed", "segment, mean", "border, mean"]
    rows = []
    for count in options.counts:
        fits, plain = (
            [iou_on_others(samples, drawn, count, seed, method) for seed in range(options.seeds)]
            for method in ("segment", "border")
        )
        each = ", ".join(f"{mean:.3f} ({median:.3f})" for mean, median in fits)
        means = [f"{np.mean(found, 0)[0]:.3f}" for found in (fits, plain)]
        rows.append([str(count), str(len(samples.samples) - count), each, *means])
    options.report.parent.mkdir(parents=True, exist_ok=True)
    page = "\n".join([*lines, table(head, rows)])
    options.report.write_text(page + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
