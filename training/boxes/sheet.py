"""A contact sheet: every picture small, with its boxes, to be looked over.

It is made of patients' pictures and shows their file names: it goes where the user says, and
nowhere else.
"""

import base64
import html
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from imaging.image import MedicalImage
from imaging.overlay import encode, shrink
from training.boxes.pool import map_pictures
from training.data.samples import Sample, SampleList
from training.data.tables import read_boxes, read_made_boxes
from training.errors import ConfigError, DataError
from training.files import complete

TILE = 224  # pixels of the longest side
COLUMNS, ROWS = 8, 6  # of a PNG page
TEXT = 18  # pixels below each tile of a PNG page
DRAWN = (60, 220, 60)
MADE = ((255, 150, 0), (60, 170, 255), (240, 80, 240), (250, 230, 40), (255, 80, 80))
"""Colors of the drawn boxes and of each list of made ones, RGB."""


class Tile(NamedTuple):
    """A picture on the sheet.

    Attributes:
        picture: Small, with boxes, uint8 RGB (H, W, 3).
        name: Of the picture.
        words: Method and confidence of each list of made boxes.
    """

    picture: np.ndarray
    name: str
    words: str


class Layer(NamedTuple):
    """One list of boxes, and what it says of them."""

    boxes: Mapping[str, np.ndarray]
    words: Mapping[str, str]
    confidence: Mapping[str, float]
    color: tuple[int, int, int]


def write_sheet(
    samples: SampleList,
    made: list[Path],
    out: Path,
    *,
    drawn: Path | None = None,
    workers: int | None = None,
) -> list[Path]:
    """Draw the boxes of one or several lists over small pictures, the least sure first.

    Args:
        samples: The pictures; those without made boxes are left out.
        made: Lists of boxes made by machine.
        out: `.html`: one page with all of them. `.png`: pages of 48, the second named `-2`.
        drawn: List of boxes drawn by people, to show beside.
        workers: See `map_pictures`.

    Returns:
        The files written, each complete or not there.

    Raises:
        ConfigError: Another suffix, or too many lists.
        DataError: A list or picture cannot be read.
    """
    check_sheet(out)
    if len(made) > len(MADE):
        raise ConfigError(f"{len(made)} lists of boxes; a sheet shows {len(MADE)} at most")
    layers = [_layer(path, color) for path, color in zip(made, MADE, strict=False)]
    named = set().union(*(layer.boxes for layer in layers))
    chosen = samples.subset(named)
    if not chosen.samples:
        raise DataError(f"{made[0].name} has no box of these pictures")
    order = sorted(
        chosen.samples,
        key=lambda item: (
            min(layer.confidence.get(item.name, 1.0) for layer in layers),
            item.name,
        ),
    )
    chosen = SampleList(samples.labels, tuple(order))
    under = [Layer(read_boxes(drawn), {}, {}, DRAWN)] if drawn else []
    draw = partial(_tile, under + layers)
    tiles = map_pictures(draw, chosen, workers=workers, doing="drawing")
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".html":
        return [_write_html(tiles, out, len(order), drawn)]
    return _write_pages(tiles, out)


def check_sheet(out: Path) -> None:
    """See that a sheet can be written under this name.

    Raises:
        ConfigError: It has another suffix.
    """
    if out.suffix not in (".html", ".png"):
        raise ConfigError(f"{out.name}: a sheet is .html or .png")


def _layer(path: Path, color: tuple[int, int, int]) -> Layer:
    made = read_made_boxes(path)
    words = {
        name: f"{made.methods[name]} {', '.join(f'{sure:.3f}' for sure in told)}"
        for name, told in made.confidences.items()
    }
    least = {name: min(told) for name, told in made.confidences.items() if told}
    return Layer(made.boxes, words, least, color)


def _tile(layers: list[Layer], item: Sample, picture: np.ndarray) -> Tile:
    height, width = picture.shape[:2]
    small = shrink(MedicalImage.of(picture), TILE)
    small = cv2.cvtColor(small, cv2.COLOR_GRAY2RGB) if small.ndim == 2 else small.copy()
    scale = np.tile([small.shape[1] / width, small.shape[0] / height], 2)
    for layer in layers:
        for box in layer.boxes.get(item.name, ()):
            x0, y0, x1, y1 = (box * scale).round().astype(int).tolist()
            cv2.rectangle(small, (x0, y0), (x1 - 1, y1 - 1), layer.color, 1)
    words = "; ".join(layer.words[item.name] for layer in layers if item.name in layer.words)
    return Tile(small, item.name, words)


def _write_pages(tiles: Iterator[Tile], out: Path) -> list[Path]:
    written: list[Path] = []
    page: list[Tile] = []
    for tile in tiles:
        page.append(tile)
        if len(page) == COLUMNS * ROWS:
            written.append(_write_page(page, out, len(written) + 1))
            page = []
    if page:
        written.append(_write_page(page, out, len(written) + 1))
    return written


def _write_page(page: list[Tile], out: Path, number: int) -> Path:
    rows = -(-len(page) // COLUMNS)
    canvas = np.zeros((rows * (TILE + 2 * TEXT), min(len(page), COLUMNS) * TILE, 3), np.uint8)
    for place, tile in enumerate(page):
        top, left = place // COLUMNS * (TILE + 2 * TEXT), place % COLUMNS * TILE
        height, width = tile.picture.shape[:2]
        canvas[top : top + height, left : left + width] = tile.picture
        for line, words in enumerate((tile.name, tile.words), start=1):
            spot = (left + 3, top + TILE + line * TEXT - 5)
            shown = words if len(words) <= 30 else f"…{words[-29:]}".replace("…", "..")
            cv2.putText(canvas, shown, spot, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1)
    path = out if number == 1 else out.with_name(f"{out.stem}-{number}{out.suffix}")
    with complete(path) as part:
        part.write_bytes(encode(canvas))
    return path


STYLE = """body{background:#111;color:#ddd;font:12px sans-serif}
figure{display:inline-block;margin:4px;width:224px;vertical-align:top}figcaption{overflow-wrap:anywhere}img{display:block}"""


def _write_html(tiles: Iterator[Tile], out: Path, count: int, drawn: Path | None) -> Path:
    green = f" Green: {html.escape(drawn.name)}." if drawn else ""
    with complete(out) as part, part.open("w", encoding="utf-8") as file:
        file.write(
            "<!doctype html><meta charset=utf-8><title>Boxes made by machine</title>"
            f"<style>{STYLE}</style><p>{count} pictures, the least sure first; confidence 0 "
            f"marks a fallback.{green}</p>\n"
        )
        for tile in tiles:
            data = base64.b64encode(encode(tile.picture, "jpeg")).decode()
            file.write(
                f'<figure><img loading=lazy src="data:image/jpeg;base64,{data}" alt="">'
                f"<figcaption>{html.escape(tile.name)}<br>{html.escape(tile.words)}"
                "</figcaption></figure>\n"
            )
    return out
