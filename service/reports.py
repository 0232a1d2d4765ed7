"""The shapes of the answers: what is in the reports, and in the headers of pictures."""

from typing import Literal

from pydantic import BaseModel, Field

from models.card import NOTICE

DIGEST = "SHA-256, as 64 hexadecimal digits"

WINDOW_HEADERS = {
    "X-Care-Window-Center": "Center of the window it is seen through, of a gray DICOM file.",
    "X-Care-Window-Width": "Its width.",
}

OVERLAY_HEADERS = {
    "X-Care-Model": "With a picture: the model asked.",
    "X-Care-Target": "With a picture: the labels explained, with commas between.",
    "X-Care-Peak": "With a picture: largest evidence for each, on the scale of the logits.",
    "X-Care-Found": "With a picture: whether each reaches its operating point, true or false.",
    "X-Care-In-Distribution": "With a picture: false if it is unlike those of the training.",
    "X-Care-Forced": "With a picture: whether `force` overrode what the model accepts.",
    **WINDOW_HEADERS,
}


class ModelReport(BaseModel):
    """Which model answered, and on what terms."""

    name: str
    version: str
    sha256: str = Field(description=f"{DIGEST}, of model.onnx.")
    license: str
    use: str


class ModelEntry(ModelReport):
    """A model on offer."""

    labels: list[str]


class ModelsReport(BaseModel):
    """The models on offer."""

    models: list[ModelEntry]


class VoiReport(BaseModel):
    """Which values of a gray DICOM picture are seen as shades of gray."""

    center: float = Field(description="Of the window, on the scale after the modality transform.")
    width: float
    source: Literal["file", "table", "range", "chosen"] = Field(
        description="file: a window of the file. table: a look-up table of it, center and width "
        "spanning as much. range: all values there are, as the file has neither. chosen: by "
        "window_center and window_width."
    )
    inverted: bool = Field(description="Whether small values are the bright ones.")


class ImageReport(BaseModel):
    """What was read. Attributes a file is silent about are empty; nobody's name is among them."""

    kind: str = Field(description="dicom, png, jpeg, tiff or bmp.")
    width: int = Field(description="Columns of the upright picture, in pixels.")
    height: int = Field(description="Rows of the upright picture, in pixels.")
    sha256: str = Field(description=f"{DIGEST}, of the file as it was sent.")
    frames: int = Field(description="How many frames the file holds.")
    frame: int = Field(description="Which of them was read, counted from 1.")
    window: int = Field(
        description="Which of a DICOM file's windows it was read with, counted from 1."
    )
    voi: VoiReport | None = Field(
        description="Through which values of interest the model saw it; null where a picture has "
        "no windows."
    )
    modality: str
    body_part: str
    view: str
    sop_class: str


class LabelReport(BaseModel):
    """One label's share of the answer."""

    label: str
    probability: float = Field(description="Calibrated probability, from 0 to 1.")
    operating_point: float = Field(description="The probability from which on it counts as found.")
    found: bool = Field(description="Whether the probability reaches the operating point.")


class ClassifyReport(BaseModel):
    """A model's opinion of one picture."""

    model: ModelReport
    image: ImageReport
    predictions: list[LabelReport] = Field(description="Every label, the most probable first.")
    forced: bool = Field(description="Whether `force` overrode what the model accepts.")
    overridden: str | None = Field(
        description="What in the file contradicted the model, if forced."
    )
    in_distribution: bool | None = Field(
        description="Whether the picture is like those the model was trained on; false: trust the "
        "answer less. Null where the model cannot tell."
    )
    distance: float | None = Field(
        description="How far it lies from them: Mahalanobis distance of the embedding's texture."
    )
    remark: str | None = Field(description="The same in words, where there is something to say.")
    notice: str = NOTICE
    request_id: str


class Explanation(BaseModel):
    """Where the evidence for one label lies."""

    target: str = Field(description="The label explained.")
    peak: float = Field(
        description="Largest evidence within the picture, on the scale of the logits. "
        "0: no positive evidence, and no heat."
    )
    overlay: str = Field(description="The picture under its heatmap, in base64.")
    media_type: str = Field(description="What the overlay is, such as image/png.")


class ShownReport(ClassifyReport):
    """The answer of /classify, and how people are shown the picture."""

    shown: VoiReport | None = Field(
        description="Through which values of interest the picture sent back is seen."
    )


class ExplainReport(ShownReport, Explanation):
    """The answer of /classify, and where the evidence for one label lies."""


class ExplanationsReport(ShownReport):
    """The answer of /classify, and where the evidence for several labels lies."""

    explanations: list[Explanation] = Field(description="One per target, in their order.")


class Layer(BaseModel):
    """One label's evidence, to be laid over the picture."""

    label: str
    peak: float
    heatmap: str = Field(
        description="Gray PNG in base64, white at the peak; smaller than the picture, to be "
        "stretched over the whole of it."
    )


class LayersReport(ShownReport):
    """The answer of /classify, and everything a viewer needs to mix picture and heat by itself."""

    picture: str = Field(description="The picture alone, upright, a PNG in base64.")
    layers: list[Layer] = Field(description="One per label, in the order of `predictions`.")


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="A stable word for programs.")
    message: str = Field(description="What was found and what was expected, for people.")
    request_id: str = Field(description="Finds the request in the log.")


class ErrorReport(BaseModel):
    """The envelope of every error."""

    error: ErrorDetail


class BatchItem(BaseModel):
    """What became of one picture of several."""

    status: int = Field(description="The HTTP status that /classify would have answered with.")
    result: ClassifyReport | None = Field(default=None, description="The answer of /classify.")
    error: ErrorDetail | None = Field(default=None, description="Or why there is none.")


class BatchReport(BaseModel):
    """What became of several pictures."""

    items: list[BatchItem] = Field(description="One per picture, in the order they were sent.")
    request_id: str


class LiveReport(BaseModel):
    """Whether the service runs, in the words of the open inference protocol."""

    live: bool


class ReadyReport(BaseModel):
    """Whether the service can answer, in the words of the open inference protocol."""

    ready: bool


class TensorReport(BaseModel):
    """One input or output of a model, in the words of the open inference protocol."""

    name: str
    datatype: str = Field(description="Such as UINT8 or FP32.")
    shape: list[int] = Field(description="-1 where any number will do.")


class ModelMetadata(BaseModel):
    """What goes into a model and what comes out, in the words of the open inference protocol."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorReport]
    outputs: list[TensorReport]
