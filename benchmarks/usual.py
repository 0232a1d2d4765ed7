"""What most projects write: pydicom, NumPy, torch, pytorch-grad-cam, OpenCV, by their manuals."""

import io

import cv2
import numpy as np
import pydicom
import torch
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from torch import Tensor
from torchvision.models import mobilenet_v2

SIZE = 224
MAX_SIDE = 1024


class UsualStack:
    """A MobileNetV2, which is what the shipped models are, with random weights.

    Args:
        classes: How many classes it tells apart.
    """

    def __init__(self, classes: int) -> None:
        self.network = mobilenet_v2(num_classes=classes).eval()
        self._cam = GradCAM(model=self.network, target_layers=[self.network.features[-1]])

    def read(self, data: bytes) -> tuple[np.ndarray, Tensor]:
        """The picture in [0, 1], (H, W, 3), at most `MAX_SIDE`; and the network's input."""
        if data[128:132] == b"DICM":
            dataset = pydicom.dcmread(io.BytesIO(data))
            values = apply_modality_lut(pixel_array(dataset), dataset)
            gray = (apply_voi_lut(values, dataset) / (2**dataset.BitsStored - 1)).astype("f4")
            if dataset.PhotometricInterpretation == "MONOCHROME1":
                gray = 1 - gray
            picture = np.stack([gray] * 3, axis=-1).clip(0, 1)
        else:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            assert pixels is not None
            picture = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype("f4") / 255
        square = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        normal = ((square - mean) / deviation).astype(np.float32)
        scale = min(1, MAX_SIDE / max(picture.shape[:2]))
        shown = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return shown, torch.from_numpy(normal).permute(2, 0, 1)[None]

    def classify(self, images: Tensor) -> list[float]:
        """Probability of each class."""
        with torch.inference_mode():
            return self.network(images).softmax(1)[0].tolist()

    def heatmap(self, images: Tensor) -> tuple[np.ndarray, list[float]]:
        """Grad-CAM of the most probable class in [0, 1], (S, S), and the probabilities.

        Not safe to call from several threads at once.
        """
        heatmap = self._cam(input_tensor=images, targets=None)[0]
        return heatmap, self._cam.outputs.softmax(1)[0].tolist()

    def overlay(self, shown: np.ndarray, heatmap: np.ndarray) -> bytes:
        """Picture under heatmap, as PNG."""
        heatmap = cv2.resize(heatmap, shown.shape[1::-1])
        overlay = show_cam_on_image(shown, heatmap, use_rgb=True)
        return cv2.imencode(".png", cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR))[1].tobytes()
