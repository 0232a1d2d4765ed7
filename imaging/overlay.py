"""Heatmap over picture, ready to encode: what a model saw, drawn where it saw it."""

from typing import NamedTuple

import cv2
import numpy as np

COLORMAPS = {
    "turbo": cv2.COLORMAP_TURBO,
    "viridis": cv2.COLORMAP_VIRIDIS,
    "inferno": cv2.COLORMAP_INFERNO,
    "magma": cv2.COLORMAP_MAGMA,
    "jet": cv2.COLORMAP_JET,
    "hot": cv2.COLORMAP_HOT,
}

CAPTION = "model attention, not a segmentation"

# In pixels: smaller letters are not legible, larger ones are not needed.
SMALLEST_TEXT, LARGEST_TEXT = 9, 64
# The legend may cover no more than this part of the picture's height.
LEGEND_SHARE = 0.25

WHITE = (255, 255, 255)


def overlay(
    picture: np.ndarray,
    heatmap: np.ndarray,
    *,
    opacity: float = 0.4,
    colormap: str = "turbo",
    peak: float,
    label: str,
    caption: str | None = CAPTION,
    note: str | None = None,
) -> np.ndarray:
    """Lay a heatmap over its picture, with a color bar and words in the lower left corner.

    A pixel's heat is also how much of the color is seen there: where there is no heat, the picture
    is left as it is. The bar's scale is absolute, so that weak evidence can be told from strong.
    What does not fit legibly on a small picture is left out.

    Args:
        picture: uint8, gray (H, W) or RGB (H, W, 3).
        heatmap: Evidence relative to its peak, in [0, 1]; shape (H, W).
        opacity: Share of the color where the heat is 1, in [0, 1].
        colormap: One of `COLORMAPS`.
        peak: Evidence where the heat is 1, in units of the logits; 0 where there is none, and the
            legend says so.
        label: Name of the class that the evidence is for.
        caption: A last line of small print; None for none.
        note: One more line, above all others.

    Returns:
        RGB uint8, shape (H, W, 3).

    Raises:
        ValueError: Shapes differ, or numbers are out of range.
    """
    if picture.dtype != np.uint8 or picture.shape[2:] not in ((), (3,)):
        raise ValueError(f"picture is {picture.dtype} {picture.shape}, expected uint8 (H, W[, 3])")
    if heatmap.shape != picture.shape[:2]:
        raise ValueError(f"heatmap is {heatmap.shape}, the picture {picture.shape[:2]}")
    if not (np.isfinite(heatmap).all() and heatmap.min() >= 0 and heatmap.max() <= 1):
        raise ValueError("heatmap has values outside [0, 1]")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}, expected 0 to 1")
    if not (np.isfinite(peak) and peak >= 0):
        raise ValueError(f"peak is {peak}, expected a number from 0 on")
    colors = _colors(colormap)
    rgb = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) if picture.ndim == 2 else picture.copy()
    if peak > 0:
        heat = np.asarray(heatmap, np.float32)
        share = heat * np.float32(opacity)
        index = np.rint(heat * 255).astype(np.uint8)
        rgb = cv2.blendLinear(rgb, cv2.applyColorMap(index, colors), 1 - share, share)
        lines: list[str | _Bar | None] = [
            note,
            f"evidence for {label}",
            _Bar(colors, f"{peak:.2g} logits"),
        ]
    else:
        lines = [note, f"no positive evidence for {label}"]
    _Legend(rgb).draw([line for line in [*lines, caption] if line])
    return rgb


def shrink(picture: np.ndarray, max_side: int) -> np.ndarray:
    """Make a picture's longer side at most `max_side` pixels; never enlarges.

    Args:
        picture: uint8, (H, W) or (H, W, 3).
        max_side: Longest side wanted, in pixels.
    """
    height, width = picture.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    while width % 2 == height % 2 == 0 and width >= 2 * size[0] and height >= 2 * size[1]:
        # many times faster than by a broken number
        width, height = width // 2, height // 2
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def encode_png(picture: np.ndarray) -> bytes:
    """Encode gray (H, W) or RGB (H, W, 3) uint8 as PNG: pixels and nothing else."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".png", picture)
    return data.tobytes()


def _colors(colormap: str) -> np.ndarray:
    """The 256 colors of a colormap, RGB uint8, shape (256, 1, 3)."""
    if colormap not in COLORMAPS:
        raise ValueError(f"colormap is {colormap!r}, expected one of {', '.join(COLORMAPS)}")
    ramp = np.arange(256, dtype=np.uint8).reshape(256, 1)
    return cv2.applyColorMap(ramp, COLORMAPS[colormap])[..., ::-1].copy()


class _Bar(NamedTuple):
    """A line that is a color bar: `0 ▒▒▓▓██ peak`."""

    colors: np.ndarray
    peak: str


class _Legend:
    """Lines of text and a color bar on a darkened patch in a picture's lower left corner."""

    def __init__(self, rgb: np.ndarray) -> None:
        self.rgb = rgb
        self.height, self.width = rgb.shape[:2]
        self.font = cv2.FontFace("sans")
        wanted = round(min(self.height, self.width) / 45)
        self.text = min(max(wanted, SMALLEST_TEXT), LARGEST_TEXT)
        self.margin = self.text * 2 // 3
        self.row = round(self.text * 1.6)

    def draw(self, lines: list[str | _Bar]) -> None:
        """Draw the lines from top to bottom.

        Lines that are too long are left out, and the last ones where there is no room for all.
        """
        room = int(self.height * LEGEND_SHARE) // self.row
        fitting = [line for line in lines if self._width(line) <= self.width - 2 * self.margin]
        lines = fitting[:room]
        if not lines:
            return
        top = self.height - len(lines) * self.row - self.margin
        right = max(map(self._width, lines)) + 2 * self.margin
        patch = self.rgb[top:, :right]
        patch[:] = cv2.convertScaleAbs(patch, alpha=0.35)
        for row, line in enumerate(reversed(lines)):
            baseline = self.height - self.margin - row * self.row
            if isinstance(line, str):
                self._write(line, self.margin, baseline)
            else:
                self._bar(line, baseline)

    def _width(self, line: str | _Bar) -> int:
        if isinstance(line, str):
            _, _, width, _ = cv2.getTextSize((0, 0), line, (0, 0), self.font, self.text, 400)
            return width
        return self._width("0") + self._width(line.peak) + 2 * self.margin + 8 * self.text

    def _write(self, words: str, left: int, baseline: int) -> None:
        cv2.putText(self.rgb, words, (left, baseline), WHITE, self.font, self.text, 400)

    def _bar(self, line: _Bar, baseline: int) -> None:
        left = 2 * self.margin + self._width("0")
        length = 8 * self.text
        ramp = line.colors[np.linspace(0, 255, length).astype(np.uint8), 0]
        self.rgb[baseline - round(self.text * 0.75) : baseline, left : left + length] = ramp
        self._write("0", self.margin, baseline)
        self._write(line.peak, left + length + self.margin, baseline)
