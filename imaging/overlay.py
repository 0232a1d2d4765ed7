"""Heatmap over picture, encoded: what a model saw, drawn where it saw it."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Literal, NamedTuple

import cv2
import numpy as np

from imaging.image import MedicalImage
from imaging.png_encoder import encode_png

COLORMAPS = {
    "turbo": cv2.COLORMAP_TURBO,
    "viridis": cv2.COLORMAP_VIRIDIS,
    "inferno": cv2.COLORMAP_INFERNO,
    "magma": cv2.COLORMAP_MAGMA,
    "jet": cv2.COLORMAP_JET,
    "hot": cv2.COLORMAP_HOT,
}

CAPTION = "model attention, not a segmentation"

LEVELS = (0.25, 0.5, 0.75)
"""Where contour lines run, as shares of the peak."""

FORMATS: dict[str, list[int]] = {
    "png": [],  # written by encode_png
    "jpeg": [cv2.IMWRITE_JPEG_QUALITY, 90],
    "webp": [cv2.IMWRITE_WEBP_QUALITY, 90],
}
"""How a picture may be encoded, and with which of OpenCV's settings."""

LONGEST_SIDE = {"jpeg": 65_500, "webp": 16_383}
"""Pixels that a side may have, of those formats that have a limit."""

# In pixels: smaller letters are not legible, larger ones are not needed.
SMALLEST_TEXT, LARGEST_TEXT = 9, 64
# The legend may cover no more than this part of the picture's height; what has to be said, more.
LEGEND_SHARE, LARGEST_SHARE = 0.25, 0.5

FONT, WEIGHT = "sans", 400
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def overlay(
    picture: np.ndarray,
    heatmap: np.ndarray,
    *,
    style: Literal["heat", "contour"] = "heat",
    opacity: float = 0.4,
    colormap: str = "turbo",
    peak: float,
    label: str,
    notes: Sequence[str] = (),
) -> np.ndarray:
    """Lay a heatmap over its picture, with a color bar and words in the lower left corner.

    A pixel's heat is also how much of the color is seen there: where there is no heat, the picture
    is left as it is. The bar's scale is absolute, so that weak evidence can be told from strong.
    Label and caption are left out of a small picture if they do not fit legibly. Where not even
    bar and notes fit, the heat is left out too: there is none without its scale.

    Args:
        picture: uint8, gray (H, W) or RGB (H, W, 3).
        heatmap: Evidence relative to its peak, in [0, 1]; shape (H, W).
        style: "heat" colors the picture; "contour" draws lines at `LEVELS` and leaves the rest.
        opacity: Share of the color where the heat is 1, in [0, 1]. Lines are always opaque.
        colormap: One of `COLORMAPS`.
        peak: Evidence where the heat is 1, in units of the logits; 0 where there is none, and the
            legend says so.
        label: Name of the class that the evidence is for.
        notes: What nobody may miss who looks at the heat.

    Returns:
        RGB uint8, shape (H, W, 3).

    Raises:
        ValueError: Shapes differ, or numbers are out of range.
    """
    if picture.dtype != np.uint8 or picture.shape[2:] not in ((), (3,)):
        raise ValueError(f"picture is {picture.dtype} {picture.shape}, expected uint8 (H, W[, 3])")
    if heatmap.shape != picture.shape[:2]:
        raise ValueError(f"heatmap is {heatmap.shape}, the picture {picture.shape[:2]}")
    if not (heatmap.min() >= 0 and heatmap.max() <= 1):  # nor is it with a NaN in it
        raise ValueError("heatmap has values outside [0, 1]")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}, expected 0 to 1")
    if not (np.isfinite(peak) and peak >= 0):
        raise ValueError(f"peak is {peak}, expected a number from 0 on")
    colors = _colors(colormap)
    legend = _Legend(picture.shape)
    if not peak > 0:
        rgb = _rgb(picture)
        legend.draw(rgb, [*notes, f"no positive evidence for {label}"], below=CAPTION)
        return rgb
    bar = _Bar(_steps(colors) if style == "contour" else colors, f"{peak:.2g}")
    must: list[Line] = [*notes, bar]
    if not legend.fits(must):
        return _rgb(picture)
    heat = np.asarray(heatmap, np.float32)
    if style == "contour":
        rgb = _rgb(picture)
        _contours(rgb, heat, colors)
    else:
        rgb = _blend(picture, heat, colors, opacity)
    legend.draw(rgb, must, above=f"evidence for {label}", below=CAPTION)
    return rgb


def tint(picture: np.ndarray, heatmap: np.ndarray, *, opacity: float = 0.4) -> np.ndarray:
    """The heat alone, without scale or words, for sheets that say themselves what they show.

    Args:
        picture: uint8 RGB (H, W, 3).
        heatmap: In [0, 1]; shape (H, W).
        opacity: Share of the color where the heat is 1, in [0, 1].
    """
    return _blend(picture, np.asarray(heatmap, np.float32), _colors("turbo"), opacity)


def shrink(picture: MedicalImage, max_side: int) -> np.ndarray:
    """A picture whose longer side is at most `max_side` pixels; never enlarged.

    Args:
        picture: Shape (H, W) or (H, W, 3).
        max_side: Longest side wanted, in pixels.

    Returns:
        uint8, (h, w) or (h, w, 3); the picture's own pixels if they are no more.
    """
    scale = max_side / max(picture.height, picture.width)
    if scale >= 1:
        return picture.pixels
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    pixels = picture.halved(scale)  # many times faster than by a broken number
    height, width = pixels.shape[:2]
    # Less than halved, every pixel has its part in a linear look-up too, at a seventh of the time.
    halved = width > 2 * size[0] or height > 2 * size[1]
    how = cv2.INTER_AREA if halved else cv2.INTER_LINEAR
    return cv2.resize(pixels, size, interpolation=how)


def encode(picture: np.ndarray, kind: str = "png") -> bytes:
    """Encode gray (H, W) or RGB (H, W, 3) uint8 as one of `FORMATS`: pixels and nothing else."""
    if kind == "png":
        return encode_png(picture)
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(f".{kind}", picture, FORMATS[kind])
    return data.tobytes()


def _rgb(picture: np.ndarray) -> np.ndarray:
    """A copy in color."""
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) if picture.ndim == 2 else picture.copy()


@cache
def _colors(colormap: str) -> np.ndarray:
    """The 256 colors of a colormap, RGB uint8, shape (256, 1, 3)."""
    if colormap not in COLORMAPS:
        raise ValueError(f"colormap is {colormap!r}, expected one of {', '.join(COLORMAPS)}")
    ramp = np.arange(256, dtype=np.uint8).reshape(256, 1)
    return cv2.applyColorMap(ramp, COLORMAPS[colormap])[..., ::-1].copy()


def _steps(colors: np.ndarray) -> np.ndarray:
    """The same where each color stays that of the contour line below it; black below the first."""
    edges = [round(255 * level) for level in LEVELS]
    steps = np.zeros_like(colors)
    for start, end in zip(edges, [*edges[1:], 256], strict=True):
        steps[start:end] = colors[start]
    return steps


def _blend(picture: np.ndarray, heat: np.ndarray, colors: np.ndarray, opacity: float) -> np.ndarray:
    """Blend in 8 bits, half as costly as in floats and at most two levels off."""
    share = opacity * np.arange(256).reshape(256, 1, 1) / 255
    added = np.rint(share * colors).astype(np.uint8)
    level = cv2.convertScaleAbs(heat, alpha=255)
    kept = cv2.convertScaleAbs(level, alpha=-opacity, beta=255)
    if picture.ndim == 2:  # a third of the work, as long as there is no color
        left = cv2.cvtColor(cv2.multiply(picture, kept, scale=1 / 255), cv2.COLOR_GRAY2RGB)
    else:
        left = cv2.multiply(picture, cv2.cvtColor(kept, cv2.COLOR_GRAY2RGB), scale=1 / 255)
    return cv2.add(left, cv2.applyColorMap(level, added), dst=left)


def _contours(rgb: np.ndarray, heat: np.ndarray, colors: np.ndarray) -> None:
    """Draw lines around all that is hotter than each level, dark-rimmed to be seen on white."""
    width = max(1, round(min(heat.shape) / 300))
    for level in LEVELS:
        hot = (heat >= level).astype(np.uint8)
        lines, _ = cv2.findContours(hot, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        color = tuple(map(int, colors[round(255 * level), 0]))
        cv2.drawContours(rgb, lines, -1, BLACK, 3 * width, cv2.LINE_AA)
        cv2.drawContours(rgb, lines, -1, color, width, cv2.LINE_AA)


@lru_cache(maxsize=1000)  # the same few words again and again
def _width_of(words: str, size: int) -> int:
    """Pixels from the left end to the right, as `_Legend` writes them."""
    return cv2.getTextSize((0, 0), words, (0, 0), cv2.FontFace(FONT), size, WEIGHT)[2]


class _Bar(NamedTuple):
    """A line that is a color bar: `0 ▒▒▓▓██ peak logits`, as long as there is room for."""

    colors: np.ndarray
    peak: str


Line = str | _Bar


class _Legend:
    """Lines of text and a color bar on a darkened patch in a picture's lower left corner."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.height, self.width = shape[:2]
        self.font = cv2.FontFace(FONT)
        wanted = round(min(self.height, self.width) / 45)
        self.text = min(max(wanted, SMALLEST_TEXT), LARGEST_TEXT)
        self.margin = self.text * 2 // 3
        self.row = round(self.text * 1.6)
        self.inner = self.width - 2 * self.margin

    def fits(self, must: Sequence[Line]) -> bool:
        """Whether all of these lines can be drawn."""
        rows = self._wrapped(must)
        return bool(rows) and len(rows) <= self._room(LARGEST_SHARE)

    def draw(
        self,
        rgb: np.ndarray,
        must: Sequence[Line],
        *,
        above: str | None = None,
        below: str | None = None,
    ) -> None:
        """Draw lines from top to bottom, wrapped where they are too long.

        Args:
            rgb: What they are drawn on.
            must: Nothing at all is drawn if not all of these fit.
            above: One more line before them, if there is room.
            below: One more line after them, likewise.
        """
        if not self.fits(must):
            return
        rows = self._wrapped(must)
        for lines in ([above, *must], [above, *must, below], [*must, below]):
            more = self._wrapped([line for line in lines if line])
            if len(rows) < len(more) <= self._room(LEGEND_SHARE):
                rows = more
        top = self.height - len(rows) * self.row - self.margin
        right = max(map(self._width, rows)) + 2 * self.margin
        patch = rgb[top:, :right]
        patch[:] = cv2.convertScaleAbs(patch, alpha=0.35)
        for row, line in enumerate(reversed(rows)):
            baseline = self.height - self.margin - row * self.row
            if isinstance(line, str):
                self._write(rgb, line, self.margin, baseline)
            else:
                self._bar(rgb, line, baseline)

    def _room(self, share: float) -> int:
        """How many rows may be drawn if the legend covers so much of the picture's height."""
        return min(int(self.height * share), self.height - self.margin) // self.row

    def _wrapped(self, lines: Sequence[Line]) -> list[Line]:
        """The lines as rows no wider than the picture; none at all if a word is too long for it."""
        rows: list[Line] = []
        for line in lines:
            if self._width(line) <= self.inner:
                rows.append(line)
                continue
            row = ""
            for word in line.split() if isinstance(line, str) else ():
                if row and self._width(f"{row} {word}") > self.inner:
                    rows.append(row)
                    row = ""
                row = f"{row} {word}" if row else word
                if self._width(word) > self.inner:
                    return []
            if not row:
                return []
            rows.append(row)
        return rows

    def _width(self, line: Line) -> int:
        """Pixels from the left end to the right; the bar is as long as there is room for."""
        if isinstance(line, str):
            return _width_of(line, self.text)
        around = self._width("0") + 2 * self.margin
        least = around + self._width(line.peak) + 2 * self.text
        wanted = around + self._width(f"{line.peak} logits") + 8 * self.text
        return max(least, min(wanted, self.inner))

    def _write(self, rgb: np.ndarray, words: str, left: int, baseline: int) -> None:
        cv2.putText(rgb, words, (left, baseline), WHITE, self.font, self.text, WEIGHT)

    def _bar(self, rgb: np.ndarray, line: _Bar, baseline: int) -> None:
        left = 2 * self.margin + self._width("0")
        room = self.width - left - 2 * self.margin
        words = f"{line.peak} logits"
        if room - self._width(words) < 2 * self.text:
            words = line.peak
        length = min(8 * self.text, room - self._width(words))
        ramp = line.colors[np.linspace(0, 255, length).astype(np.uint8), 0]
        rgb[baseline - round(self.text * 0.75) : baseline, left : left + length] = ramp
        self._write(rgb, "0", self.margin, baseline)
        self._write(rgb, words, left + length + self.margin, baseline)
