"""A reading → what is sent back: reports for programs, pictures for people."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

import numpy as np
from fastapi.responses import Response
from pydantic import BaseModel

from imaging.image import MedicalImage, Voi
from imaging.overlay import LONGEST_SIDE, encode, overlay, shrink
from models.card import DIGITS, ModelCard
from models.classifier import Classifier
from models.distribution import UNLIKE
from service.errors import BadOption
from service.metrics import stage
from service.options import ClassifyOptions, ExplainOptions, PictureOptions
from service.reading_room import Reading
from service.remarks import remarks
from service.reports import (
    BatchItem,
    ClassifyReport,
    ExplainReport,
    Explanation,
    ExplanationsReport,
    ImageReport,
    LabelReport,
    Layer,
    LayersReport,
    ModelEntry,
    ModelMetadata,
    ModelReport,
    TensorReport,
    VoiReport,
)
from service.secondary_capture import secondary_capture

DICOM = "application/dicom"

WIDEST = {"dicom": 65_535, **LONGEST_SIDE}
"""Columns that pictures side by side may have, by what they are sent as."""

DATATYPES = {"tensor(uint8)": "UINT8", "tensor(float)": "FP32"}
"""ONNX Runtime's names of types → those of the open inference protocol."""

LAYER_SIDE = 320
"""Longer side of a layer's heatmap, in pixels, at most: maps are a few cells wide, and smooth."""


def classification(reading: Reading, options: ClassifyOptions, request_id: str) -> Response:
    """The answer of /classify."""
    return _json(_report(reading, request_id))


def batch_item(reading: Reading, request_id: str) -> BatchItem:
    """The answer of /classify_batch for one picture."""
    return BatchItem(status=HTTPStatus.OK, result=_report(reading, request_id))


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A picture of the evidence for one label.

    Attributes:
        target: The label.
        peak: The largest evidence, on the scale of the logits.
        pixels: RGB uint8, (H, W, 3), or gray, (H, W).
    """

    target: str
    peak: float
    pixels: np.ndarray


def explanation(reading: Reading, options: ExplainOptions, request_id: str) -> Response:
    """The answer of /explain, as the options want it.

    Raises:
        LabelNotFound: The model does not know a label to explain.
        ImagingError: The file does not have what is to be shown.
        BadOption: It cannot be answered with a DICOM file, or the pictures do not fit in one.
    """
    targets = options.target or (reading.prediction.top,)
    for target in targets:
        reading.prediction.index(target)
    with stage("render"):
        shown = reading.shown(options.display_window)
        picture = shrink(shown, options.max_side)
        if options.output == "layers":
            return _json(_layers(reading, shown, picture, request_id))
        if options.output != "json":
            _check_file(shown.facts.kind, picture.shape[1] * len(targets), options)
        drawn = [_draw(reading, picture, target, options) for target in targets]
        if options.output == "json":
            return _json(_explained(reading, shown, drawn, options, request_id))
        content, kind = _file(reading, drawn, options)
    headers = _overlay_headers(reading, drawn) | _window_headers(shown)
    return Response(content, media_type=kind, headers=headers)


def picture_alone(image: MedicalImage, options: PictureOptions) -> Response:
    """The answer of /picture."""
    with stage("render"):
        content = encode(shrink(image, options.max_side), options.format)
    return Response(content, media_type=f"image/{options.format}", headers=_window_headers(image))


def model_entry(card: ModelCard) -> ModelEntry:
    """A model as GET /models lists it."""
    return ModelEntry(**dict(_model(card)), labels=list(card.labels))


def model_metadata(classifier: Classifier) -> ModelMetadata:
    """A model as the open inference protocol describes it."""
    inputs, outputs = (
        [
            TensorReport(
                name=tensor.name,
                datatype=DATATYPES[tensor.kind],
                shape=[size if isinstance(size, int) else -1 for size in tensor.shape],
            )
            for tensor in tensors
        ]
        for tensors in (classifier.inputs, classifier.outputs)
    )
    return ModelMetadata(
        name=classifier.card.name,
        versions=[classifier.card.version],
        platform="onnxruntime_onnx",
        inputs=inputs,
        outputs=outputs,
    )


def _model(card: ModelCard) -> ModelReport:
    return ModelReport(
        name=card.name,
        version=card.version,
        sha256=card.sha256,
        license=card.license,
        use=card.use,
    )


def _check_file(sent: str, width: int, options: ExplainOptions) -> None:
    """Refuse what no file can be made of, before anything is drawn.

    Args:
        sent: Kind of the file that was sent.
        width: Of the pictures side by side, in pixels.
        options: Those of the request.
    """
    if options.output == "dicom" and sent != "dicom":
        raise BadOption(f"output: dicom answers to DICOM files, this is a {sent}")
    kind = "dicom" if options.output == "dicom" else options.format
    if width > WIDEST.get(kind, width):
        raise BadOption(
            f"the pictures side by side would be {width} pixels wide, {kind} has {WIDEST[kind]} at "
            "most: ask for fewer of target, a smaller max_side or another format"
        )


def _report(reading: Reading, request_id: str) -> ClassifyReport:
    card, facts = reading.classifier.card, reading.image.facts
    return ClassifyReport(
        model=_model(card),
        image=ImageReport(
            kind=facts.kind,
            width=reading.image.width,
            height=reading.image.height,
            sha256=reading.sha256,
            frames=facts.frames,
            frame=reading.frame,
            window=reading.window,
            voi=_voi(reading.image.voi),
            modality=facts.modality,
            body_part=facts.body_part,
            view=facts.view,
            sop_class=facts.sop_class,
        ),
        predictions=[
            LabelReport(
                label=label,
                probability=round(probability, DIGITS),
                operating_point=card.operating_points[label],
                found=reading.found(label),
            )
            for label, probability in reading.prediction.ranked()
        ],
        forced=reading.overridden is not None,
        overridden=reading.overridden,
        in_distribution=reading.prediction.in_distribution,
        distance=_rounded(reading.prediction.distance),
        remark=UNLIKE if reading.unlike else None,
        request_id=request_id,
    )


def _json(report: BaseModel) -> Response:
    return Response(report.model_dump_json(), media_type="application/json")


def _voi(voi: Voi | None) -> VoiReport | None:
    if voi is None or not math.isfinite(voi.window.center + voi.window.width):
        return None  # the range of float pixels may be wider than any number
    return VoiReport(
        center=voi.window.center,
        width=voi.window.width,
        source=voi.source,
        inverted=voi.inverted,
    )


def _window_headers(shown: MedicalImage) -> dict[str, str]:
    voi = _voi(shown.voi)
    if voi is None:
        return {}
    return {
        "X-Care-Window-Center": f"{voi.center:.10g}",
        "X-Care-Window-Width": f"{voi.width:.10g}",
    }


def _overlay_headers(reading: Reading, drawn: Sequence[Drawn]) -> dict[str, str]:
    return {
        "X-Care-Model": quote(reading.classifier.card.name),
        "X-Care-Target": ",".join(quote(one.target, safe="") for one in drawn),
        "X-Care-Peak": ",".join(f"{one.peak:.6g}" for one in drawn),
        "X-Care-Found": ",".join(_word(reading.found(one.target)) for one in drawn),
        "X-Care-In-Distribution": _word(not reading.unlike),
        "X-Care-Forced": _word(reading.overridden is not None),
    }


def _rounded(distance: float | None) -> float | None:
    return None if distance is None else round(distance, 4)


def _draw(reading: Reading, picture: np.ndarray, target: str, options: ExplainOptions) -> Drawn:
    """The evidence for a label: over the picture, or alone in shades of gray."""
    heatmap, peak = reading.prediction.heatmap(target, picture.shape[:2])
    if options.output == "heatmap":
        return Drawn(target, peak, _gray(heatmap))
    card, forced = reading.classifier.card, reading.overridden is not None
    pixels = overlay(
        picture,
        heatmap,
        style=options.style,
        opacity=options.opacity,
        colormap=options.colormap,
        peak=peak,
        label=target,
        notes=remarks(reading.prediction, target, card, forced=forced),
    )
    return Drawn(target, peak, pixels)


def _file(reading: Reading, drawn: Sequence[Drawn], options: ExplainOptions) -> tuple[bytes, str]:
    """The pictures side by side as one file, and its media type."""
    pixels = np.hstack([one.pixels for one in drawn]) if len(drawn) > 1 else drawn[0].pixels
    if options.output != "dicom":
        return encode(pixels, options.format), f"image/{options.format}"
    made = secondary_capture(
        reading.data,
        pixels,
        [one.target for one in drawn],
        card=reading.classifier.card,
        facts=reading.image.facts,
        frame=reading.frame,
        look=options.look,
    )
    return made, DICOM


def _explained(
    reading: Reading,
    shown: MedicalImage,
    drawn: Sequence[Drawn],
    options: ExplainOptions,
    request_id: str,
) -> ExplainReport | ExplanationsReport:
    classified = dict(_report(reading, request_id)) | {"shown": _voi(shown.voi)}
    explanations = [
        Explanation(
            target=one.target,
            peak=one.peak,
            overlay=_base64(encode(one.pixels, options.format)),
            media_type=f"image/{options.format}",
        )
        for one in drawn
    ]
    if len(explanations) > 1:
        return ExplanationsReport(**classified, explanations=explanations)
    return ExplainReport(**classified, **dict(explanations[0]))


def _layers(
    reading: Reading, shown: MedicalImage, picture: np.ndarray, request_id: str
) -> LayersReport:
    height, width = picture.shape[:2]
    scale = min(1, LAYER_SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    layers = []
    for label, _ in reading.prediction.ranked():
        heatmap, peak = reading.prediction.heatmap(label, size)
        layers.append(Layer(label=label, peak=peak, heatmap=_base64(encode(_gray(heatmap)))))
    return LayersReport(
        **dict(_report(reading, request_id)),
        shown=_voi(shown.voi),
        picture=_base64(encode(picture)),
        layers=layers,
    )


def _gray(heatmap: np.ndarray) -> np.ndarray:
    return np.rint(heatmap * 255).astype(np.uint8)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _word(yes: bool) -> str:
    return "true" if yes else "false"
