"""An ONNX model that says of each pixel how probably it is lesion: any that keeps the contract.

    one input    uint8 (N, S, S, 3), RGB as displayed; or float32 (N, 3, S, S), the same over 255
    one output   float32 (N, h, w) or (N, 1, h, w): probability of lesion, in [0, 1]

The picture is squashed to S x S whatever its proportions, gray is fed as three equal channels, and
the output is stretched back over the picture. S is fixed in the model. Normalization and the
sigmoid are part of the graph: nobody outside knows which ones it was trained with.
"""

from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime

from imaging.image import MedicalImage
from imaging.preprocessing import Preprocessing
from models.classifier import session_options
from models.errors import BrokenModel


class Segmenter:
    """An ONNX session that finds lesions.

    Attributes:
        name: Of its file, for messages.
        preprocessing: How a picture becomes its input.
    """

    def __init__(self, session: onnxruntime.InferenceSession, name: str) -> None:
        """See that the session keeps the contract.

        Raises:
            BrokenModel: It has other inputs or outputs.
        """
        inputs: list[tuple[str, str, list]] = [
            (one.name, one.type, one.shape) for one in session.get_inputs()
        ]
        outputs = [(one.name, one.type, one.shape) for one in session.get_outputs()]
        self.name = name
        self._session = session
        self._input, kind, shape = inputs[0] if inputs else ("", "", [])
        self._float = kind == "tensor(float)"
        side = shape[-1 if self._float else 1] if len(shape) == 4 else None
        wanted = [3, side, side] if self._float else [side, side, 3]
        if (
            len(inputs) != 1
            or kind not in ("tensor(float)", "tensor(uint8)")
            or not isinstance(side, int)
            or shape[1:] != wanted
        ):
            raise BrokenModel(
                f"{name}: inputs are {inputs}, expected one, tensor(uint8) [N, S, S, 3] or "
                "tensor(float) [N, 3, S, S], with a number for S"
            )
        if len(outputs) != 1 or outputs[0][1] != "tensor(float)":
            raise BrokenModel(
                f"{name}: outputs are {outputs}, expected one, tensor(float) [N, 1, h, w] or "
                "[N, h, w]"
            )
        self.preprocessing = Preprocessing(size=side, fit="squash", color="rgb")

    @classmethod
    def load(cls, path: Path, *, threads: int = 1) -> Self:
        """Load a model from its file.

        Args:
            path: The ONNX file.
            threads: Cores one call may use.

        Raises:
            BrokenModel: It cannot be loaded, or has other inputs or outputs.
        """
        try:
            session = onnxruntime.InferenceSession(
                path, session_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no base class but this
            raise BrokenModel(f"{path.name}: ONNX Runtime cannot load it: {error}") from error
        return cls(session, path.name)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Probability of lesion, float32 (N, h, w), from squares, uint8 (N, S, S, 3).

        Raises:
            BrokenModel: The model puts out anything else.
        """
        if self._float:
            images = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
        [found] = self._session.run(None, {self._input: images})
        if found.ndim == 4 and found.shape[1] == 1:
            found = found[:, 0]
        if found.ndim != 3:
            raise BrokenModel(
                f"{self.name}: puts out {list(found.shape)}, expected [N, 1, h, w] or [N, h, w]"
            )
        low, high = float(found.min()), float(found.max())
        if not -1e-6 <= low <= high <= 1 + 1e-6:
            raise BrokenModel(
                f"{self.name}: puts out values from {low:.3g} to {high:.3g}, expected "
                "probabilities in [0, 1]; the sigmoid belongs into the graph"
            )
        return found

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Probability of lesion over a picture, uint8 (H, W[, 3]) → float32 (H, W)."""
        square, placement = self.preprocessing(MedicalImage.of(picture))
        return placement.map_to_picture(self.run(square[None])[0])
