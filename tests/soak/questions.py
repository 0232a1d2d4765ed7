"""What a soak asks, and what must come back.

Good answers are worked out beforehand, by the service in this process, one at a time; the
probabilities among them once more by the models alone.
"""

import base64
import dataclasses
import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import httpx
import numpy as np
from pydicom.uid import JPEG2000Lossless, RLELossless, VLPhotographicImageStorage
from starlette.testclient import TestClient

from imaging.reading import read_image
from models.store import load_one
from scripts.made_up import generated_lesion
from tests.factories import INSTANCE, as_bytes, as_jpeg, as_png, make_color, make_dicom, make_film

Manner = Literal["ask", "leave midway", "leave before the answer"]

SHARES = {"classify": 38, "explain": 33, "picture": 6, "classify_batch": 8, "others": 15}
"""How often what is asked, among the good requests, in percent."""

OVERLAYS = (
    {},
    {"style": "contour", "format": "webp"},
    {"format": "jpeg", "opacity": "0.7", "colormap": "viridis"},
    {"output": "heatmap", "max_side": "300"},
    {"output": "json"},
    {"output": "layers", "max_side": "512"},
)

PNG = b"\x89PNG\r\n\x1a\n"
PNG_IN_BASE64 = "iVBORw0KGgo"

WINDOW = {"window_center": "1500", "window_width": "2000"}


@dataclass(frozen=True)
class Picture:
    """A file, and the model it is for.

    Attributes:
        named: Whether the model has to be named, as the file does not say which one is meant.
    """

    kind: str
    data: bytes
    model: str
    named: bool = True

    @property
    def fields(self) -> dict[str, str]:
        return {"model": self.model} if self.named else {}


@dataclass(frozen=True)
class Question:
    """One request and what must come back.

    Attributes:
        call: What is asked for, in the report's words.
        status: HTTP status expected.
        answer: JSON without the ids of requests, or the content of a picture, as `comparable`
            has it; None where it is different each time, or nobody waits for it.
        code: Expected error code.
    """

    call: str
    method: str
    path: str
    body: bytes = b""
    kind: str = ""
    manner: Manner = "ask"
    status: int = 200
    answer: object = None
    code: str = ""


def pictures() -> list[Picture]:
    """Small pictures of the kinds and sizes that come."""
    study = {"StudyInstanceUID": f"{INSTANCE}.1", "SeriesInstanceUID": f"{INSTANCE}.2"}
    photograph = {
        "Modality": "XC",
        "SOPClassUID": VLPhotographicImageStorage,
        "BodyPartExamined": None,
        "ViewPosition": None,
    }

    def film(rows: int, columns: int, syntax: str = "", **more: object) -> Picture:
        pixels = make_film(rows, columns, seed=rows)
        dataset = make_dicom(pixels, bits_stored=12, **study, **more)
        if syntax:
            dataset.compress(syntax, generate_instance_uid=False)
        return Picture("film", as_bytes(dataset), "chest-xray", named=False)

    chest = make_film(900, 760, bits=8)
    mole = cv2.resize(generated_lesion(), (600, 450))
    progressive = cv2.imencode(".jpg", mole[..., ::-1], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1]
    return [
        film(320, 256),
        film(700, 600),
        film(1400, 1200, photometric="MONOCHROME1"),
        film(500, 420, JPEG2000Lossless),
        film(400, 500, RLELossless),
        Picture("dicom", as_bytes(make_dicom(mole, **study, **photograph)), "dermoscopy", False),
        Picture("png", as_png(chest), "chest-xray"),
        Picture("jpeg", as_jpeg(chest), "chest-xray"),
        Picture("jpeg", as_jpeg(mole), "dermoscopy"),
        Picture("jpeg", as_jpeg(make_color(224, 300), orientation=6), "dermoscopy"),
        Picture("jpeg", progressive.tobytes(), "dermoscopy"),
        Picture("png", as_png(make_color(300, 224, seed=1)), "dermoscopy"),
    ]


def good(reference: TestClient, models: Path) -> dict[str, list[Question]]:
    """Requests that are answered, by what they ask."""
    shown = pictures()
    labels = {name: load_one(models, name).card.labels for name in {one.model for one in shown}}
    asked: dict[str, list[Question]] = {name: [] for name in SHARES}
    for picture in shown:
        asked["classify"].append(post("/classify", [picture.data], picture.fields))
        first, *_, last = labels[picture.model]
        overlays = [*OVERLAYS, {"target": [first, last]}]
        if picture.kind in ("film", "dicom"):
            overlays.append({"output": "dicom"})
        if picture.kind == "film":
            overlays.append(WINDOW)
        asked["explain"] += [
            post("/explain", [picture.data], picture.fields | options) for options in overlays
        ]
        seen = WINDOW if picture.kind == "film" else {"format": "jpeg"}
        asked["picture"].append(post("/picture", [picture.data], seen | {"max_side": "512"}))
    for one, two in itertools.pairwise(shown):
        fields = {"model": one.model, "force": "true"}
        asked["classify_batch"].append(post("/classify_batch", [one.data, two.data], fields))
    # one item has its answer, the other its error
    asked["classify_batch"].append(post("/classify_batch", [shown[0].data, b"no picture"], {}))
    asked = {name: [answered(reference, one) for one in ones] for name, ones in asked.items()}
    for picture, question in zip(shown, asked["classify"], strict=True):
        check(picture, question, models)
    paths = ("/models", "/openapi.json", "/v2/health/live", "/v2/health/ready")
    paths += tuple(f"/v2/models/{name}" for name in labels)
    asked["others"] = [answered(reference, Question(path, "GET", path)) for path in paths]
    # BentoML answers these, or the answer is another one each time
    asked["others"] += [
        Question(path, "GET", path) for path in ("/readyz", "/livez", "/metrics", "/")
    ]
    return asked


def bad() -> list[Question]:
    """Requests that must be refused, and clients that leave."""
    film, _, large, squeezed, *_ = (one.data for one in pictures())
    knee = as_bytes(make_dicom(make_film(), BodyPartExamined="KNEE"))
    fine = post("/explain", [large], {})
    cut = dataclasses.replace(fine, body=fine.body[: len(fine.body) // 2])
    refused = [
        (post("/classify", [film[: len(film) // 2]], {}), 422, "unreadable"),
        (post("/classify", [squeezed[:-900]], {}), 422, "unreadable"),
        (post("/explain", [b"no picture"], {"model": "dermoscopy"}), 422, "unreadable"),
        (post("/classify", [b"GIF89a" + bytes(99)], {"model": "dermoscopy"}), 415, "unsupported"),
        (post("/classify", [knee], {"model": "chest-xray"}), 422, "not_suitable"),
        (post("/classify", [large], {"frame": "2"}), 400, "bad_option"),
        (post("/explain", [large], {"opacity": "2"}), 400, "bad_option"),
        (post("/explain", [large], {"unknown": "1"}), 400, "bad_option"),
        (post("/classify", [large], {"model": "brain"}), 404, "model_not_found"),
        (post("/explain", [film], {"target": "measles"}), 404, "target_not_found"),
        (post("/classify", [as_png(make_color())], {}), 400, "model_required"),
        (cut, 400, "bad_request"),
        (Question("/nowhere", "GET", "/nowhere"), 404, "not_found"),
        (Question("/classify", "GET", "/classify"), 405, "method_not_allowed"),
    ]
    wrong = [
        dataclasses.replace(one, call=f"{one.path}: {code}", status=status, code=code)
        for one, status, code in refused
    ]
    manners: tuple[Manner, ...] = ("leave midway", "leave before the answer")
    return wrong + [
        dataclasses.replace(fine, call=f"/explain: {manner}", manner=manner, status=0)
        for manner in manners
    ]


def post(path: str, files: Sequence[bytes], fields: dict[str, str | list[str]]) -> Question:
    """A form, as httpx writes it."""
    form = [("image", ("a", data)) for data in files]
    # the boundary is chosen here, so that the same seed asks the same bytes
    boundary = f"soak-{random.Random(path).getrandbits(64):x}"
    kind = f"multipart/form-data; boundary={boundary}"
    request = httpx.Request(
        "POST", f"http://care{path}", files=form, data=fields, headers={"Content-Type": kind}
    )
    return Question(path, "POST", path, request.read(), kind)


def answered(reference: TestClient, question: Question) -> Question:
    """The same with its answer."""
    headers = {"Content-Type": question.kind} if question.kind else {}
    answer = reference.request(
        question.method, question.path, content=question.body, headers=headers
    )
    assert answer.status_code == 200, (question.call, answer.text)
    kind = answer.headers["Content-Type"]
    return dataclasses.replace(question, answer=comparable(kind, answer.content))


def comparable(kind: str, body: bytes) -> object:
    """An answer without what differs each time."""
    if kind == "application/json":
        return _comparable(json.loads(body))
    return _shown(body)


def _comparable(value: object) -> object:
    if isinstance(value, dict):
        return {name: _comparable(one) for name, one in value.items() if name != "request_id"}
    if isinstance(value, list):
        return [_comparable(one) for one in value]
    if isinstance(value, str) and value.startswith(PNG_IN_BASE64):
        return _shown(base64.b64decode(value))
    return value


def _shown(body: bytes) -> object:
    """Of a PNG size and pixels: they may be packed into other bytes another time."""
    if not body.startswith(PNG):
        return body
    pixels = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    return body if pixels is None else (pixels.shape, hashlib.sha256(pixels).hexdigest())


def check(picture: Picture, question: Question, models: Path) -> None:
    """Compare the probabilities of an answer with the model's own, to six decimals."""
    [prediction] = load_one(models, picture.model).classify([read_image(picture.data)])
    expected = [(label, round(float(value), 6)) for label, value in prediction.ranked()]
    assert isinstance(question.answer, dict)
    found = [(one["label"], one["probability"]) for one in question.answer["predictions"]]
    assert found == expected, (found, expected)


def chosen(
    asked: dict[str, list[Question]], wrong: list[Question], share: float, seed: int
) -> Iterator[Question]:
    """Questions without end, the same ones for the same seed.

    Args:
        share: Of wrong ones, from 0 to 1.
    """
    dice = random.Random(seed)
    names, weights = list(SHARES), list(SHARES.values())
    while True:
        if dice.random() < share:
            yield dice.choice(wrong)
        else:
            yield dice.choice(asked[dice.choices(names, weights)[0]])
