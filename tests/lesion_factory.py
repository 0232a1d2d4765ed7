"""Draws a small imbalanced data set with planted lesions; nothing of it comes from a patient."""

import csv
from pathlib import Path

import cv2
import numpy as np

SIDE = 64
COUNTS = {"disc": 60, "ring": 24, "cross": 12}


def lesion_set(folder: Path, *, seed: int = 0, counts: dict[str, int] | None = None) -> Path:
    """Write images/, labels.csv (image, label, patient) and boxes.csv (image, x, y, w, h).

    Classes are shapes of 17 x 17 pixels on noise, anywhere in a picture of 64 x 64; every patient
    has two pictures of one class.
    """
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    labels, boxes = [], []
    for label, count in (counts or COUNTS).items():
        for number in range(count):
            name = f"{label}-{number:03}.png"
            picture = random.integers(60, 110, (SIDE, SIDE, 3)).astype(np.uint8)
            x, y = (int(value) for value in random.integers(12, SIDE - 12, 2))
            draw(picture, label, x, y)
            cv2.imwrite(str(folder / "images" / name), picture)
            labels.append((name, label, f"{label}{number // 2}"))
            boxes.append((name, x - 8, y - 8, 17, 17))
    for table, head, rows in (
        ("labels.csv", ("image", "label", "patient"), labels),
        ("boxes.csv", ("image", "x", "y", "w", "h"), boxes),
    ):
        with (folder / table).open("w", newline="") as file:
            csv.writer(file).writerows([head, *rows])
    return folder


def draw(picture: np.ndarray, label: str, x: int, y: int) -> None:
    """Plant a lesion."""
    color = (190, 210, 230)
    if label == "disc":
        cv2.circle(picture, (x, y), 8, color, -1)
    elif label == "ring":
        cv2.circle(picture, (x, y), 8, color, 2)
    else:
        cv2.line(picture, (x - 8, y), (x + 8, y), color, 3)
        cv2.line(picture, (x, y - 8), (x, y + 8), color, 3)


LEARNT = """[data]
group_column = "patient"
labels = ["disc", "ring", "cross"]
boxes = "boxes.csv"
validation = 0.25
test = 0.25

[input]
size = 64

[network]
backbone = "resnet18"
batch_norm = "train"
"""
"""What is learnt from, and by which network."""

RUN = f"""
{LEARNT}
[attention]
attend = ["minority"]
minority = 0.5

[sampler]
name = "pk"
k = 6
epoch_pictures = 36

[stage1]
epochs = 2
learning_rate = 1e-3

[stage2]
epochs = 2
learning_rate = 1e-3
"""


def lesion_run(folder: Path, name: str = "lesions", text: str = RUN) -> Path:
    """Write the run's TOML beside the data set: small, in this process, in float32."""
    path = folder / f"{name}.toml"
    path.write_text('workers = 0\nprecision = "32-true"\nsheet_every = 0\n' + text)
    return path


RECIPES = {
    "deep-pneumonia": """
method = "deep_pneumonia"
[pretraining]
name = "moco"
batch = 6
queue = 12
rows = 8
epochs = 1
learning_rate = 1e-3
""",
    "proco": """
method = "proco"
[proco]
queue = 12
rows = 8
""",
    "ecl": """
method = "ecl"
[ecl]
rows = 8
[stage1]
optimizer = "sgd"
patience = 100
""",
}


def lesion_recipes(folder: Path) -> Path:
    """Write a small run of each method beside CARE, as `care reproduce compare` takes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in RECIPES.items():
        lesion_run(folder, name, text + "[sampler]\nbatch = 6\n")
    return folder
