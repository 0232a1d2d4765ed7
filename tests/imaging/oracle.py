"""The way everybody else goes from DICOM to display: pydicom's functions on float arrays."""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array


def displayed(dataset: Dataset, frame: int = 0) -> np.ndarray:
    """Brightness in [0, 255] as float64 (H, W), or RGB (H, W, 3)."""
    stored = pixel_array(dataset, index=frame)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        colors = apply_color_lut(stored, dataset).astype(np.float64)
        return colors / 257 if colors.max() > 255 else colors
    if stored.ndim == 3:
        return stored * (255 / (2**dataset.BitsStored - 1))
    values = apply_modality_lut(stored, dataset).astype(np.float64)
    if dataset.get("VOILUTSequence"):
        values = apply_voi_lut(apply_modality_lut(stored, dataset), dataset).astype(np.float64)
        data = dataset.VOILUTSequence[0].LUTData
        entries = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.array(data)
        low, high = 0, 2 ** int(entries.max()).bit_length() - 1
    elif dataset.get("WindowWidth"):
        low, high = apply_voi_lut(np.array([-1e12, 1e12]), dataset)
        values = apply_voi_lut(values, dataset)
    else:
        present = values
        if "PixelPaddingValue" in dataset:
            first = dataset.PixelPaddingValue
            last = dataset.get("PixelPaddingRangeLimit", first)
            present = values[(stored < min(first, last)) | (stored > max(first, last))]
        low, high = present.min(), present.max()
    gray = ((values - low) / max(high - low, 1e-9)).clip(0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        gray = 1 - gray
    return gray * 255
