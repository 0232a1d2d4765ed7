"""One still picture and its promises, and the file it comes from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

import cv2
import numpy as np

from imaging.errors import FrameNotFound, ImageTooLarge, UnsupportedImage


@dataclass(frozen=True, slots=True)
class Window:
    """Which values become shades of gray; those below are black, those above white.

    Attributes:
        center: Middle of them, on the scale after the modality transform.
        width: How many there are, above 0.
    """

    center: float
    width: float


@dataclass(frozen=True, slots=True)
class Voi:
    """Through which values of interest a gray DICOM picture is seen (PS3.3 C.11.2).

    Attributes:
        window: Those in force; of a look-up table or the range of the pixels, the window that
            spans as much.
        source: Where they come from: a window of the file or a look-up table of it, the range of
            its pixels where it has neither, or whoever asked for others.
        inverted: Whether small values are the bright ones.
    """

    window: Window
    source: Literal["file", "table", "range", "chosen"]
    inverted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the header of a file says about its picture; never who is on it.

    DICOM attributes are upper-case and stripped; "" where the file is silent or is no DICOM. What
    they state in words that the standard does not know is not told, as it may be a name: it is
    "OTHER" in modality, body part and view (see terms.py).

    Attributes:
        kind: "dicom", "png", "jpeg", "tiff" or "bmp".
        width: Columns of the upright picture, in pixels.
        height: Rows of the upright picture, in pixels.
        frames: How many frames the file holds.
        modality: Modality (0008,0060), such as "DX".
        body_part: Body parts named in BodyPartExamined (0018,0015), such as "CHEST"; where that is
            missing or no code string, in what the code in AnatomicRegionSequence (0008,2218) means.
        view: ViewPosition (0018,5101), such as "PA"; "LATERAL" where only the view code or the
            patient orientation says so.
        sop_class: SOPClassUID (0008,0016); this and the next three only if valid (PS3.5 9.1).
        sop_instance: SOPInstanceUID (0008,0018).
        series: SeriesInstanceUID (0020,000E).
        study: StudyInstanceUID (0020,000D).
        syntax: Name of the TransferSyntaxUID (0002,0010), such as "JPEG 2000 Image Compression".
    """

    kind: str
    width: int
    height: int
    frames: int = 1
    modality: str = ""
    body_part: str = ""
    view: str = ""
    sop_class: str = ""
    sop_instance: str = ""
    series: str = ""
    study: str = ""
    syntax: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class MedicalImage:
    """One still picture, upright and display-ready, before any model-specific resizing.

    Attributes:
        pixels: Brightness as uint8; shape (H, W) when gray, (H, W, 3) when sRGB. Larger is
            brighter: windowed, and MONOCHROME1 already inverted.
        facts: What the header said.
        voi: Through which values it is seen; None of a picture that has no windows.
    """

    pixels: np.ndarray
    facts: Facts
    voi: Voi | None = None
    _half: list[np.ndarray] = field(default_factory=list, init=False, repr=False)

    @classmethod
    def of(cls, pixels: np.ndarray) -> Self:
        """A picture that comes from no file."""
        height, width = pixels.shape[:2]
        return cls(pixels, Facts(kind="", width=width, height=height))

    @property
    def height(self) -> int:
        """Rows, in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns, in pixels."""
        return int(self.pixels.shape[1])

    def halved(self, scale: float) -> np.ndarray:
        """Its pixels at 1, 1/2, 1/4, ... of their size, each the mean of those it stands for.

        Model and people see a film much smaller than it is. The first step, the only one that reads
        all of it, is kept for whoever asks next.

        Args:
            scale: Sides are halved, if both are even, as long as they stay as long as this says,
                as a share of what they are.

        Returns:
            uint8, (h, w) or (h, w, 3); not to be written to.
        """
        pixels = self.pixels
        while scale <= 0.5 and pixels.shape[0] % 2 == pixels.shape[1] % 2 == 0:
            made = self._half if pixels is self.pixels else []
            if not made:
                size = pixels.shape[1] // 2, pixels.shape[0] // 2
                made.append(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
            pixels, scale = made[0], 2 * scale
        return pixels


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile:
    """A file whose header was read and found to be a picture; nothing is decoded yet.

    Attributes:
        facts: What the header says: enough to ask whether the picture suits a model.
        decode: Decodes one frame, counted from 0, to display-ready pixels, through a window as
            in `read`, and says which that is.
        fragile: Whether a hostile file of this kind may crash its decoder or keep it busy for
            ever; see isolation.py.
    """

    facts: Facts
    decode: Callable[[int, Window | int | None], tuple[np.ndarray, Voi | None]]
    fragile: bool = False

    def read(self, frame: int | None = None, window: Window | int | None = None) -> MedicalImage:
        """Decode one frame.

        Args:
            frame: Which one, counted from 1 as in DICOM; None for the only one.
            window: A window in place of the file's, or which of the file's, counted from 1 and
                its look-up tables first; None for the first.

        Raises:
            ImagingError: Several frames and none was chosen, no such frame, or damaged pixels.
        """
        count = self.facts.frames
        if frame is None and count > 1:
            raise UnsupportedImage(f"has {count} frames, expected one; choose with frame=1…{count}")
        if frame is not None and not 1 <= frame <= count:
            raise FrameNotFound(f"has {count} frame{'s'[: count > 1]}, there is no frame {frame}")
        pixels, voi = self.decode((frame or 1) - 1, window)
        return MedicalImage(pixels, self.facts, voi)


def check_pixels(width: int, height: int, max_megapixels: float) -> None:
    """Refuse a picture of more pixels than may be decoded.

    Raises:
        ImageTooLarge: With both numbers.
    """
    if width * height > max_megapixels * 1e6:
        # in whole numbers: a DICOM header can say more than a float holds
        raise ImageTooLarge(
            f"{width}x{height} are {round(width * height, -6) // 10**6} megapixels, "
            f"at most {max_megapixels:g} are decoded"
        )
