"""One still picture and its promises."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the header of a file says about its picture; never who is on it.

    DICOM attributes are upper-case and stripped; "" where the file is silent or is no DICOM.

    Attributes:
        kind: "dicom", "png" or "jpeg".
        width: Columns of the upright picture, in pixels.
        height: Rows of the upright picture, in pixels.
        frames: How many frames the file holds.
        modality: Modality (0008,0060), such as "DX".
        body_part: BodyPartExamined (0018,0015), such as "CHEST".
        view: ViewPosition (0018,5101), such as "PA"; "LATERAL" where only the view code or the
            patient orientation says so.
        sop_class: SOPClassUID (0008,0016).
    """

    kind: str
    width: int
    height: int
    frames: int = 1
    modality: str = ""
    body_part: str = ""
    view: str = ""
    sop_class: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class MedicalImage:
    """One still picture, upright and display-ready, before any model-specific resizing.

    Attributes:
        pixels: Brightness as uint8; shape (H, W) when gray, (H, W, 3) when RGB. Larger is
            brighter: windowed, and MONOCHROME1 already inverted.
        facts: What the header said.
    """

    pixels: np.ndarray
    facts: Facts

    @property
    def height(self) -> int:
        """Rows, in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns, in pixels."""
        return int(self.pixels.shape[1])
