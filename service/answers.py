"""A reading → what is sent back: reports for programs, pictures for people."""

import base64
from urllib.parse import quote

import numpy as np
from fastapi.responses import JSONResponse, Response

from imaging.overlay import encode_png, overlay, shrink
from models.card import ModelCard
from service.forms import ClassifyOptions, ExplainOptions
from service.metrics import stage
from service.reading_room import Reading
from service.reports import (
    ClassifyReport,
    ExplainReport,
    ImageReport,
    LabelReport,
    Layer,
    LayersReport,
    ModelEntry,
    ModelReport,
)

LAYER_SIDE = 320
"""Longer side of a layer's heatmap, in pixels, at most: maps are a few cells wide, and smooth."""


def classification(reading: Reading, options: ClassifyOptions, request_id: str) -> Response:
    """The answer of /classify."""
    return JSONResponse(_report(reading, request_id).model_dump())


def explanation(reading: Reading, options: ExplainOptions, request_id: str) -> Response:
    """The answer of /explain, as the options want it.

    Raises:
        LabelNotFound: The model does not know the label to explain.
    """
    target = options.target or reading.prediction.top
    reading.prediction.index(target)
    with stage("render"):
        if options.output == "layers":
            return JSONResponse(_layers(reading, options, request_id).model_dump())
        picture = shrink(reading.image.pixels, options.max_side)
        heatmap, peak = reading.prediction.heatmap(target, picture.shape[:2])
        if options.output == "heatmap":
            png = _gray_png(heatmap)
        else:
            png = encode_png(
                overlay(
                    picture,
                    heatmap,
                    opacity=options.opacity,
                    colormap=options.colormap,
                    peak=peak,
                    label=target,
                    note="forced: not suitable" if reading.overridden else None,
                )
            )
        if options.output == "json":
            report = ExplainReport(
                **dict(_report(reading, request_id)),
                target=target,
                peak=peak,
                overlay=_base64(png),
            )
            return JSONResponse(report.model_dump())
    headers = {
        "X-Care-Model": quote(reading.classifier.card.name),
        "X-Care-Target": quote(target),
        "X-Care-Peak": f"{peak:.6g}",
        "X-Care-Forced": "true" if reading.overridden else "false",
    }
    return Response(png, media_type="image/png", headers=headers)


def model_entry(card: ModelCard) -> ModelEntry:
    """A model as GET /models lists it."""
    return ModelEntry(**dict(_model(card)), labels=list(card.labels))


def _model(card: ModelCard) -> ModelReport:
    return ModelReport(
        name=card.name,
        version=card.version,
        sha256=card.sha256,
        license=card.license,
        use=card.use,
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
            modality=facts.modality,
            body_part=facts.body_part,
            view=facts.view,
            sop_class=facts.sop_class,
        ),
        predictions=[
            LabelReport(
                label=label,
                probability=round(probability, 6),
                operating_point=card.operating_points[label],
                found=probability >= card.operating_points[label],
            )
            for label, probability in reading.prediction.ranked()
        ],
        forced=reading.overridden is not None,
        overridden=reading.overridden,
        request_id=request_id,
    )


def _layers(reading: Reading, options: ExplainOptions, request_id: str) -> LayersReport:
    picture = shrink(reading.image.pixels, options.max_side)
    height, width = picture.shape[:2]
    scale = min(1, LAYER_SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    layers = []
    for label, _ in reading.prediction.ranked():
        heatmap, peak = reading.prediction.heatmap(label, size)
        layers.append(Layer(label=label, peak=peak, heatmap=_base64(_gray_png(heatmap))))
    return LayersReport(
        **dict(_report(reading, request_id)), picture=_base64(encode_png(picture)), layers=layers
    )


def _gray_png(heatmap: np.ndarray) -> bytes:
    return encode_png(np.rint(heatmap * 255).astype(np.uint8))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
