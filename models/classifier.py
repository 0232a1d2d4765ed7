"""A loaded model: pictures in, predictions with their maps out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import onnxruntime

from imaging.image import MedicalImage
from imaging.preprocessing import Placement
from models.card import ModelCard
from models.distribution import Distribution
from models.errors import BrokenModel, LabelNotFound
from models.heatmap import heatmap

Provider = Literal["cpu", "cuda", "tensorrt", "tensorrt-fp16"]
"""What can run a model; the last one computes with half the digits."""

_CPU = ["CPUExecutionProvider"]
_CUDA = ["CUDAExecutionProvider", *_CPU]
_TENSORRT = ["TensorrtExecutionProvider", *_CUDA]

PROVIDERS: dict[Provider, list[str]] = {
    "cpu": _CPU,
    "cuda": _CUDA,
    "tensorrt": _TENSORRT,
    "tensorrt-fp16": _TENSORRT,
}
"""ONNX Runtime's names for it, and what runs the operators that it does not know."""

CONTRACT_KEY = "care.contract"
OUTPUTS = ("logits", "cams", "embedding")


class Outputs(NamedTuple):
    """What the graph puts out for N pictures.

    Attributes:
        logits: Class scores before temperature and softmax, float32 (N, C).
        cams: Grad-CAM of every class, ReLU'd, not normalized, float32 (N, C, h, w).
        embedding: Pooled features of an early and of the last map, float32 (N, K).
    """

    logits: np.ndarray
    cams: np.ndarray
    embedding: np.ndarray


class Tensor(NamedTuple):
    """An input or output of the graph.

    Attributes:
        name: Such as "images".
        kind: Its type as ONNX Runtime names it, such as "tensor(uint8)".
        shape: Length of each axis; a name, or None, where it is free.
    """

    name: str
    kind: str
    shape: list[int | str | None]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A model's opinion of one picture.

    Attributes:
        labels: Class names, in the card's order.
        probabilities: Calibrated probability of each label, float64 (C,), sums to 1.
        cams: Grad-CAM of each label over the model's square, float32 (C, h, w), at least 0, on the
            scale of the logits.
        placement: Where the picture lies on that square.
        embedding: Pooled features, float32 (K,).
        distance: How far the picture lies from the training pictures; None where the model has no
            statistics of them.
        in_distribution: Whether that is as near as most of them are; None likewise.
    """

    labels: tuple[str, ...]
    probabilities: np.ndarray
    cams: np.ndarray
    placement: Placement
    embedding: np.ndarray
    distance: float | None = None
    in_distribution: bool | None = None

    @property
    def top(self) -> str:
        """The most probable label."""
        return self.ranked()[0][0]

    def ranked(self) -> list[tuple[str, float]]:
        """Every label with its probability, most probable first."""
        both = zip(self.labels, self.probabilities.tolist(), strict=True)
        return sorted(both, key=itemgetter(1), reverse=True)

    def index(self, label: str) -> int:
        """Where a label stands among the outputs.

        Raises:
            LabelNotFound: With the labels there are.
        """
        try:
            return self.labels.index(label)
        except ValueError:
            known = ", ".join(self.labels)
            raise LabelNotFound(f"no label {label!r}; this model knows {known}") from None

    def probability(self, label: str) -> float:
        """Calibrated probability of one label.

        Raises:
            LabelNotFound: With the labels there are.
        """
        return float(self.probabilities[self.index(label)])

    def heatmap(self, label: str, size: tuple[int, int] | None = None) -> tuple[np.ndarray, float]:
        """Where the evidence for a label lies.

        Args:
            label: One of `labels`.
            size: (height, width) wanted; the picture's own if None.

        Returns:
            The heatmap, float32 in [0, 1] with 1 at its hottest, shape `size`; and the raw peak,
            on the scale of the logits. Both are 0 without evidence; see `models.heatmap`.

        Raises:
            LabelNotFound: With the labels there are.
        """
        return heatmap(self.cams[self.index(label)], self.placement, size)


class Classifier:
    """An ONNX session and its card. Safe to call from several threads at once.

    Attributes:
        card: The model's card.
    """

    def __init__(
        self,
        card: ModelCard,
        session: onnxruntime.InferenceSession,
        distribution: Distribution | None = None,
    ) -> None:
        self.card = card
        self._session = session
        self._distribution = distribution

    @classmethod
    def load(
        cls,
        folder: Path,
        card: ModelCard | None = None,
        *,
        threads: int = 1,
        provider: Provider = "cpu",
        most: int = 16,
    ) -> Self:
        """Load `model.onnx` and `card.json`, and see that they belong together.

        Args:
            folder: The model's folder, such as `models/chest-xray`.
            card: Its card, if that was read already; it is not read again then.
            threads: Cores one call may use.
            provider: What shall run it.
            most: Pictures that one call will be given at most; TensorRT builds for that number.

        Raises:
            BrokenModel: A file is missing, the digest does not match, or card and graph disagree.
        """
        card = card or ModelCard.load(folder / "card.json")
        try:
            graph = (folder / "model.onnx").read_bytes()
        except OSError as error:
            raise BrokenModel(f"{folder.name}: cannot read model.onnx") from error
        if (digest := hashlib.sha256(graph).hexdigest()) != card.sha256:
            raise BrokenModel(
                f"{folder.name}: model.onnx has digest {digest}, the card says {card.sha256}"
            )
        distribution = None
        if card.distribution_sha256:
            distribution = Distribution.load(folder / "distribution.npz", card.distribution_sha256)
        session = session_for(graph, card, threads=threads, provider=provider, most=most)
        return cls(card, session, distribution)

    @property
    def active(self) -> Provider:
        """What does run the model. ONNX Runtime falls back to the CPU without a word."""
        first = self._session.get_providers()[0]
        if self._session.get_provider_options()[first].get("trt_fp16_enable") == "1":
            return "tensorrt-fp16"
        return next(name for name, names in PROVIDERS.items() if names[0] == first)

    @property
    def inputs(self) -> list[Tensor]:
        """What the graph takes."""
        return [Tensor(one.name, one.type, one.shape) for one in self._session.get_inputs()]

    @property
    def outputs(self) -> list[Tensor]:
        """What the graph puts out."""
        return [Tensor(one.name, one.type, one.shape) for one in self._session.get_outputs()]

    def run(self, images: np.ndarray) -> Outputs:
        """Run the graph on model inputs, uint8 (N, S, S, 3)."""
        return Outputs(*self._session.run(OUTPUTS, {"images": images}))

    def classify(self, pictures: Sequence[MedicalImage]) -> list[Prediction]:
        """Classify pictures; one prediction each, in order."""
        if not pictures:
            return []
        fitted = [self.card.preprocessing(picture) for picture in pictures]
        return self.predictions(
            self.run(np.stack([square for square, _ in fitted])),
            [placement for _, placement in fitted],
        )

    def predictions(self, outputs: Outputs, placements: Sequence[Placement]) -> list[Prediction]:
        """Turn the graph's outputs into predictions, one per placement."""
        probabilities = softmax(np.divide(outputs.logits, self.card.temperature, dtype=np.float64))
        distances, limit = [None] * len(placements), 0.0
        if self._distribution is not None:
            distances = self._distribution.distance(outputs.embedding).tolist()
            limit = float(self._distribution.threshold)
        return [
            Prediction(
                labels=self.card.labels,
                probabilities=probabilities[n],
                cams=outputs.cams[n],
                placement=placement,
                embedding=outputs.embedding[n],
                distance=distance,
                in_distribution=None if distance is None else distance <= limit,
            )
            for n, (placement, distance) in enumerate(zip(placements, distances, strict=True))
        ]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def best_provider() -> Provider:
    """Say "cuda" where ONNX Runtime's GPU build and an NVIDIA driver are both here, else "cpu"."""
    can = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return "cuda" if can and Path("/dev/nvidiactl").exists() else "cpu"


def best_batch(provider: Provider) -> int:
    """Pictures that a run had best take at once: on a CPU, several gain nothing."""
    return 1 if provider == "cpu" else 16


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """How every session is set up here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads of one session steal the cores of the next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def session_for(
    graph: bytes,
    card: ModelCard,
    *,
    threads: int = 1,
    provider: Provider = "cpu",
    most: int = 16,
) -> onnxruntime.InferenceSession:
    """Open a session on a serialized graph, and see that it keeps what the card promises.

    Raises:
        BrokenModel: It cannot be loaded, or card and graph disagree.
    """
    name = card.name
    options = session_options(threads)
    if provider != "cpu":
        # The CUDA libraries that pip installs lie where no loader looks.
        onnxruntime.preload_dlls()
    known = set(onnxruntime.get_available_providers())
    settings = _provider_settings(card, provider, most)
    chosen = [(name, settings.get(name, {})) for name in PROVIDERS[provider] if name in known]
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=chosen)
    except Exception as error:  # ONNX Runtime's errors share no base class but this
        raise BrokenModel(f"{name}: ONNX Runtime cannot load model.onnx: {error}") from error
    size = card.preprocessing.size
    inputs = [(one.name, one.type, one.shape[1:]) for one in session.get_inputs()]
    outputs = {output.name: output.shape for output in session.get_outputs()}
    if inputs != [("images", "tensor(uint8)", [size, size, 3])]:
        raise BrokenModel(
            f"{name}: inputs are {inputs}, expected images tensor(uint8) [N, {size}, {size}, 3]"
        )
    if set(outputs) != set(OUTPUTS) or outputs["logits"][1:] != [len(card.labels)]:
        raise BrokenModel(
            f"{name}: outputs are {outputs}, expected {', '.join(OUTPUTS)} "
            f"for {len(card.labels)} labels"
        )
    if session.get_modelmeta().custom_metadata_map.get(CONTRACT_KEY) != card.contract():
        raise BrokenModel(f"{name}: card.json and the contract inside model.onnx disagree")
    return session


def _provider_settings(card: ModelCard, provider: Provider, most: int) -> dict[str, dict[str, Any]]:
    """What ONNX Runtime's providers are told, by their names."""
    size = card.preprocessing.size

    def shape(count: int) -> str:
        return f"images:{count}x{size}x{size}x3"

    return {
        # Batches differ in size: an exhaustive search for each, and an arena that doubles, cost
        # more than they bring.
        "CUDAExecutionProvider": {
            "cudnn_conv_algo_search": "HEURISTIC",
            "arena_extend_strategy": "kSameAsRequested",
        },
        "TensorrtExecutionProvider": {
            "trt_profile_min_shapes": shape(1),
            "trt_profile_opt_shapes": shape(most),
            "trt_profile_max_shapes": shape(most),
            "trt_fp16_enable": provider == "tensorrt-fp16",
        },
    }
