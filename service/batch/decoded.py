"""A file between its decoding and the model, which may be in another process."""

from dataclasses import dataclass

import numpy as np

from imaging.image import MedicalImage
from imaging.preprocessing import Placement
from service.batch.job import Row


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A file that only the model has yet to see. Can be sent to another process.

    Attributes:
        row: What is known of it so far.
        square: The model's input, uint8 (S, S, 3).
        placement: Where the picture lies on it.
        forced: What in that contradicts the model, if that is overridden.
        image: What people are shown, no larger than an overlay; None where nothing is drawn.
        data: Its bytes, where a Secondary Capture is asked for.
        seconds: What it has cost so far.
    """

    row: Row
    square: np.ndarray
    placement: Placement
    forced: str | None
    image: MedicalImage | None
    data: bytes | None
    seconds: float
