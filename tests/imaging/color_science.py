"""Color spaces computed by hand in float64, and ICC profiles that describe them."""

import struct
from dataclasses import dataclass

import numpy as np

D65, D50 = np.array([0.3127, 0.3290]), np.array([0.34567, 0.35850])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def light_of_srgb(levels: np.ndarray) -> np.ndarray:
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def srgb_of_light(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@dataclass(frozen=True)
class Space:
    """An RGB color space whose white is D65.

    Attributes:
        primaries: Chromaticities x, y of red, green and blue.
        gamma: Exponent of its curve; None for the curve of sRGB.
    """

    primaries: tuple[tuple[float, float], ...]
    gamma: float | None = None

    def light(self, levels: np.ndarray) -> np.ndarray:
        return light_of_srgb(levels) if self.gamma is None else levels**self.gamma

    @property
    def to_xyz(self) -> np.ndarray:
        """Linear light to XYZ, whose Y of white is 1."""
        columns = np.stack([xyz(np.array(primary)) for primary in self.primaries], axis=1)
        return columns * np.linalg.solve(columns, xyz(D65))


SRGB = Space(((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)))
DISPLAY_P3 = Space(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)))
ADOBE_RGB = Space(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), gamma=563 / 256)


def xyz(chromaticity: np.ndarray) -> np.ndarray:
    """XYZ of luminance 1."""
    x, y = chromaticity
    return np.array([x / y, 1, (1 - x - y) / y])


def as_srgb(pixels: np.ndarray, space: Space) -> np.ndarray:
    """What uint8 pixels of a space are in sRGB, not rounded; what sRGB lacks is clipped."""
    light = space.light(pixels / 255) @ (np.linalg.inv(SRGB.to_xyz) @ space.to_xyz).T
    return srgb_of_light(np.clip(light, 0, 1)) * 255


def _fixed(numbers: np.ndarray | list[float]) -> bytes:
    return _words(np.asarray(numbers) * 65536, ">i4")


def _words(numbers: np.ndarray, kind: str = ">u2") -> bytes:
    return np.rint(numbers).astype(kind).tobytes()


def _to_pcs(space: Space) -> np.ndarray:
    """Linear light to XYZ under D50, as profiles have it."""
    cones = np.diag((BRADFORD @ xyz(D50)) / (BRADFORD @ xyz(D65)))
    return np.linalg.inv(BRADFORD) @ cones @ BRADFORD @ space.to_xyz


def matrix_profile(space: Space, *, table: int = 0, kind: bytes = b"RGB ") -> bytes:
    """A profile of matrix and curves.

    Args:
        space: What it describes.
        table: Entries of its curves; 0 writes them as a formula.
        kind: The color space it says it is of.
    """
    if table:
        light = space.light(np.linspace(0, 1, table))
        curve = b"curv" + struct.pack(">II", 0, table) + _words(light * 65535)
    elif space.gamma is None:
        formula = [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045]
        curve = b"para" + struct.pack(">IHH", 0, 3, 0) + _fixed(formula)
    else:
        curve = b"curv" + struct.pack(">IIHH", 0, 1, round(space.gamma * 256), 0)
    tags = {}
    for name, column in zip((b"r", b"g", b"b"), _to_pcs(space).T, strict=True):
        tags[name + b"XYZ"] = b"XYZ " + bytes(4) + _fixed(column)
        tags[name + b"TRC"] = curve
    return _profile(tags, kind)


def table_profile(space: Space) -> bytes:
    """The same in look-up tables (lut16Type): curves, and a grid of the corners alone."""
    curve = space.light(np.linspace(0, 1, 1024)) * 65535
    corners = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = (corners @ _to_pcs(space).T * 32768).clip(0, 65535)
    lut = b"mft2" + struct.pack(">I4B", 0, 3, 3, 2, 0) + _fixed(np.eye(3))
    lut += struct.pack(">HH", curve.size, 2) + _words(curve) * 3 + _words(grid)
    return _profile({b"A2B0": lut + _words(np.array([0, 65535] * 3))})


def _profile(tags: dict[bytes, bytes], kind: bytes = b"RGB ") -> bytes:
    """A profile of a display, version 2.4, but for formulas, which are of version 4."""
    white = _fixed(xyz(D50))
    tags = {b"wtpt": b"XYZ " + bytes(4) + white, **tags}
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size, version = 128 + len(table) + len(body), 0x02400000
    header = struct.pack(">I4xI4s4s4s12x4s", size, version, b"mntr", kind, b"XYZ ", b"acsp")
    return (header.ljust(68, b"\0") + white).ljust(128, b"\0") + table + body
