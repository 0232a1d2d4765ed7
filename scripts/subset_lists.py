"""Train, validation and test lists of a fixed part of a data set, one file for every seed.

    python -m scripts.subset_lists RUN.toml --data DIR --pictures 2700 [--all LABEL ...]
        [--seeds 0 1 2]

Which pictures take part is drawn once, whole groups, and all groups of the labels named by `--all`.
Every seed then shares these out anew, in the run's proportions, and writes the list that
`data.split` of the run names, in which every other picture is "unused".
"""

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.config import TrainingRun
from training.data.layouts import load_samples
from training.data.samples import SampleList
from training.data.splits import make_split, write_split


def draw(samples: SampleList, pictures: int, whole: list[str]) -> SampleList:
    """A part of a data set, of so many pictures at most, drawn with seed 0.

    Args:
        samples: The data set.
        pictures: How many to draw.
        whole: Labels of which nothing is left out.
    """
    sizes = Counter(item.group for item in samples.samples)
    chosen = {item.group for item in samples.samples if samples.labels[item.label] in whole}
    left = pictures - sum(sizes[group] for group in chosen)
    for group in np.random.default_rng(0).permutation(sorted(sizes.keys() - chosen)).tolist():
        if sizes[group] <= left:
            chosen.add(group)
            left -= sizes[group]
    return samples.subset({item.name for item in samples.samples if item.group in chosen})


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, required=True)
    parser.add_argument("--all", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    arguments = parser.parse_args()
    data = replace(TrainingRun.load(arguments.run).data, root=str(arguments.data))
    samples = load_samples(replace(data, boxes=""))
    part = draw(samples, arguments.pictures, arguments.all)
    for seed in arguments.seeds:
        shared = make_split(part, validation=data.validation, test=data.test, seed=seed)
        unused = {item.name: "unused" for item in samples.samples}
        write_split(unused | shared, Path(data.split.replace("{seed}", str(seed))))


if __name__ == "__main__":
    main()
