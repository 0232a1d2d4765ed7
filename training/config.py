"""A run is a dataclass and a file: defaults here, with their reasons; TOML holds what differs."""

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

from training.errors import ConfigError
from training.method_settings import DeepPneumoniaSettings, ECLSettings, ProCoSettings

USUAL_LOSS = {"deep_pneumonia": "class_balanced", "proco": "logit_adjusted"}
"""The `loss.name` that a method brings, where a run names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Where pictures, labels and boxes are. Relative paths start at `root`.

    Attributes:
        layout: "manifest", "folders", "isic2018" or "rsna"; see training.data.layouts.
        root: Folder of the data set; `--data` on the command line.
        manifest: CSV with one row a picture (layout "manifest").
        images: Folder of the pictures; "" for the usual one of the layout.
        boxes: CSV with one row a box, `image,x,y,w,h` in picture pixels; "" for none.
        image_column: Column with the picture's path below `images`.
        label_column: Column with the label.
        group_column: Column of the manifest that tells which pictures must stay together
            (patient, lesion); "" where every picture stands for itself.
        labels: Class names in the order of the logits; empty: those of the manifest, sorted.
        merge: Labels that count as another one: `{active_and_latent_tb = "latent_tb"}`.
        split: CSV `image,split` that lists train, validation and test; made by the first run and
            reused by every later one. Relative to the TOML's folder. `{seed}` in it stands for the
            run's seed: other lists for every seed.
        validation: Share of the groups that go to validation, in multiples of 0.05.
        test: Share that goes to test, likewise.
        keep: How many training pictures of a class to keep, to make it rare; drawn by the run's
            seed, whole groups first, and written down with the split.
    """

    layout: str = "manifest"
    root: str = "."
    manifest: str = "labels.csv"
    images: str = ""
    boxes: str = ""
    image_column: str = "image"
    label_column: str = "label"
    group_column: str = ""
    labels: tuple[str, ...] = ()
    merge: dict[str, str] = field(default_factory=dict)
    split: str = ""
    validation: float = 0.15
    test: float = 0.15
    keep: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSettings:
    """How a picture becomes the network's input; ends up on the model's card.

    Attributes:
        size: Side of the square input, in pixels. 224 is what ImageNet weights saw.
        fit: "squash" or "pad"; see imaging.Preprocessing.
        color: "rgb" or "gray".
    """

    size: int = 224
    fit: str = "squash"
    color: str = "rgb"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """The network and what it starts from.

    Attributes:
        backbone: A torchvision name.
        weights: "none", a torchvision weights name, or a state dict's path (relative to the data).
        batch_norm: "frozen" keeps the statistics of the initial weights, right for small sets and
            small batches; "train" updates them.
        map_layer: Where Grad-CAM is taken, in training and in the exported graph: "last", as the
            paper has it, or "previous", of twice the resolution, for small lesions (ours).
    """

    backbone: str = "mobilenet_v2"
    weights: str = "none"
    batch_norm: str = "frozen"
    map_layer: str = "last"


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSettings:
    """What the classifier learns from. Options left out take the loss's own default.

    Attributes:
        name: One of training.losses.LOSSES.
        gamma: Of "focal".
        beta: Of the effective number ("class_balanced", "ldam_drw").
        margin: Of the rarest class ("ldam_drw").
        deferred: Share of a stage before re-weighting ("ldam_drw").
        tau: Strength of the prior ("logit_adjusted").
    """

    name: str = "cross_entropy"
    gamma: float | None = None
    beta: float | None = None
    margin: float | None = None
    deferred: float | None = None
    tau: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSettings:
    """The attention loss of stage 2.

    Attributes:
        attend: Labels whose boxes are used: names, or "all", or "minority" for the classes with
            less than `minority` times the pictures of the largest. Empty: no attention loss.
        minority: See `attend`.
        alpha: Share of L_a in the total, in [0, 1): 0.5 in the paper.
        lam: Weight of L_out: 0.5 for X-rays, 0.7 for skin in the paper.
        tau: Mean attention beyond which a box earns no more; the authors' code has 0.5.
        head_learns: Let gradients of L_a reach the head (ours); the paper treats the Grad-CAM
            weights as constants.
        outside_slope: Growth of the outside mask per pixel of distance; 0 is the paper's uniform.
        box_scale: Boxes are scaled by this about their centers: 1 as drawn.
    """

    attend: tuple[str, ...] = ()
    minority: float = 0.1
    alpha: float = 0.5
    lam: float = 0.5
    tau: float = 0.5
    head_learns: bool = False
    outside_slope: float = 0.0
    box_scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationSettings:
    """Random changes of training pictures; boxes move along. All off by default.

    Attributes:
        flip_horizontal: Mirror left-right half of the time. Not for hearts that must stay left.
        flip_vertical: Mirror upside-down half of the time.
        rotation: Largest rotation either way, in degrees.
        zoom: Smallest and largest magnification.
        aspect: Largest factor by which one axis is stretched against the other; 1 for none.
        shift: Largest shift either way, as a share of the side.
        brightness: Largest change, as a share of full brightness.
        contrast: Largest factor by which contrast grows or shrinks, minus 1.
        gamma: Largest exponent of the gray curve, minus 1: other windows, other films.
        saturation: Largest factor by which color saturation grows or shrinks, minus 1.
        hue: Largest shift of the hue, in degrees.
        blur: Largest sigma of a Gaussian blur, half of the time, in pixels of the input.
        border: What fills the space beyond the picture: "reflect" (the picture mirrored), "black",
            or "either", each half of the time.
    """

    flip_horizontal: bool = False
    flip_vertical: bool = False
    rotation: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    aspect: float = 1.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    border: str = "reflect"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSettings:
    """Which pictures make up a batch. The sampler is a remedy of its own: compare like with like.

    Attributes:
        name: "plain", "class_uniform" or "pk"; see training.data.samplers.
        batch: Pictures per step, over all processes; "pk" takes P times K instead.
        p: Classes per batch of "pk"; 0 for all.
        k: Pictures per class of "pk".
        epoch_pictures: Pictures per epoch; 0 for as many as the training list has.
    """

    name: str = "plain"
    batch: int = 32
    p: int = 0
    k: int = 8
    epoch_pictures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MixUpSettings:
    """Mixtures of two pictures (Zhang et al. 2018; Balanced-MixUp, Galdran et al. 2021).

    Attributes:
        alpha: Of the Beta distribution of the shares; 0 for no mixing.
        balanced: Draw the second picture class-uniformly, its share from Beta(alpha, 1) - 0.1 in
            the authors' command; else both as drawn, Beta(alpha, alpha).
    """

    alpha: float = 0.0
    balanced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """How long and how fast a stage learns.

    Attributes:
        epochs: Passes over the training list at most.
        learning_rate: 1e-4 with Adam in the CARE paper.
        schedule: "constant", or "cosine" down to 0 over the stage.
        weight_decay: Decoupled with AdamW.
        patience: Epochs without a better validation mean class accuracy before the stage stops.
        optimizer: "adamw", or "sgd" with momentum 0.9, as contrastive methods publish their rates.
        average: Decay of an exponential moving average (EMA) of the weights, in [0, 1): the share
            that it keeps of itself at each step. It is then what is validated and kept, less moved
            by the last batches (Polyak and Juditsky 1992; ours). 0 for the weights themselves.
        size: Side of the pictures in this stage, in pixels; 0 for `input.size`. Small pictures are
            learnt from several times as fast, and a short last stage gets the network used to
            those it will be asked about (Touvron et al. 2019; ours).
    """

    epochs: int = 50
    learning_rate: float = 1e-4
    schedule: str = "constant"
    weight_decay: float = 0.0
    patience: int = 10
    optimizer: str = "adamw"
    average: float = 0.0
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingSettings(StageSettings):
    """Contrastive pre-training on the training list, without labels, before stage 1 of any method.

    Its network is `pretrain.safetensors` in the run's folder; other runs can start from it by
    `network.weights`. The last epoch is kept: without labels, none is better than another.
    Rates, temperature, momentum and width are MoCo-v2's.

    Attributes:
        name: "none", "moco" (MoCo-v2) or "simclr".
        batch: Pictures per step, over all processes. The rate belongs to 256: scale it along.
        queue: Negatives that "moco" keeps, a multiple of the batch.
        rows: Dimension of the projection, whose rows are compared.
        momentum: Of the key encoder of "moco".
        temperature: Of the similarities.
    """

    epochs: int = 200
    learning_rate: float = 0.03
    schedule: str = "cosine"
    weight_decay: float = 1e-4
    optimizer: str = "sgd"
    name: str = "none"
    batch: int = 256
    queue: int = 4096
    rows: int = 128
    momentum: float = 0.999
    temperature: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """What the arm without attention gets, so that a comparison is fair.

    Attributes:
        second_stage: Run stage 2 also where no attention loss is asked for.
    """

    second_stage: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """What goes on the exported model's card.

    Attributes:
        version: Version of the model.
        license: Terms of the weights in a few words.
        license_file: Text that becomes the model's LICENSE. Relative to the TOML's folder.
        about: What it is and what it learned from, for people to read.
        rebuild: The commands that make it again.
        limits: What it cannot do.
        modalities: DICOM modalities that the model is made for.
        sop_classes: SOP classes that identify a suitable picture as well.
        body_parts: Body parts, in DICOM's words.
        views: View positions.
    """

    version: str = "0.1.0"
    license: str = "not stated"
    license_file: str = ""
    about: str = ""
    rebuild: str = ""
    limits: str = "Not described."
    modalities: tuple[str, ...] = ()
    sop_classes: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    views: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """One fine-tuning run, as written in `training/runs/*.toml`.

    Attributes:
        name: Of the run and of the model it makes.
        method: "care", "deep_pneumonia", "proco" or "ecl"; see training.methods.
        seed: Of everything random: split, order, augmentation, new weights.
        workers: Loader processes, per device.
        accelerator: "auto", "cpu" or "cuda".
        devices: How many of them; more than one train together (DDP).
        precision: Of the training steps, in Lightning Fabric's words: "bf16-mixed" is right on
            recent CPUs and GPUs, else "16-mixed" (GPUs) or "32-true". Validation is in float32.
        sheet_every: Epochs between two sheets of attention overlays; 0 for none.
        crt: Third stage, decoupled retraining of the classifier (Kang et al. 2020): features
            frozen, new last layer, every class equally often, plain cross-entropy whatever the
            loss. Off at 0 epochs.
        views: Random changes of the second view of a picture, where a method compares two, and of
            both in pre-training. As MoCo-v2's but for what a lesion or a film does not survive:
            crops keep half of the picture, colors stay. The first view has `augmentation`, as in
            every other run.
    """

    name: str
    method: str = "care"
    seed: int = 0
    workers: int = 2
    accelerator: str = "auto"
    devices: int = 1
    precision: str = "bf16-mixed"
    sheet_every: int = 5
    data: DataSettings = field(default_factory=DataSettings)
    input: InputSettings = field(default_factory=InputSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    attention: AttentionSettings = field(default_factory=AttentionSettings)
    control: ControlSettings = field(default_factory=ControlSettings)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    mixup: MixUpSettings = field(default_factory=MixUpSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    views: AugmentationSettings = field(
        default_factory=lambda: AugmentationSettings(
            flip_horizontal=True,
            zoom=(1.0, 2**0.5),
            shift=0.1,
            brightness=0.2,
            contrast=0.4,
            blur=2.0,
        )
    )
    pretraining: PretrainingSettings = field(default_factory=PretrainingSettings)
    deep_pneumonia: DeepPneumoniaSettings = field(default_factory=DeepPneumoniaSettings)
    proco: ProCoSettings = field(default_factory=ProCoSettings)
    ecl: ECLSettings = field(default_factory=ECLSettings)
    stage1: StageSettings = field(default_factory=StageSettings)
    stage2: StageSettings = field(default_factory=StageSettings)
    crt: StageSettings = field(default_factory=lambda: StageSettings(epochs=0))
    model: ModelSettings = field(default_factory=ModelSettings)

    @classmethod
    def load(cls, path: Path, *, settings: tuple[str, ...] = ()) -> Self:
        """Read a run.

        Args:
            path: The TOML.
            settings: "section.key=value" overrides, values as in TOML; plain words need no quotes.

        Raises:
            ConfigError: An unknown or misspelt entry (the nearest one is named), or a wrong type.
        """
        try:
            entries = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path.name}: {error}") from error
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        for setting in settings:
            _override(entries, setting)
        entries.setdefault("name", path.stem)
        usual, loss = USUAL_LOSS.get(str(entries.get("method"))), entries.setdefault("loss", {})
        if usual and isinstance(loss, dict):
            loss.setdefault("name", usual)
        for section, key in (("data", "split"), ("model", "license_file")):
            table = entries.get(section)
            if isinstance(table, dict) and isinstance(file := table.get(key), str) and file:
                table[key] = str((path.parent / file).resolve())
        return _build(cls(name=""), entries, path.name)


def _override(entries: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals:
        raise ConfigError(f"--set {setting}: expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.strip().split(".")
    for section in sections:
        entries = entries.setdefault(section, {})
        if not isinstance(entries, dict):
            raise ConfigError(f"--set {setting}: {section} is no section")
    entries[last] = value


def _build(usual: Any, entries: Mapping[str, Any], where: str) -> Any:
    """The usual settings with some entries changed; unknown ones and wrong types stop the run."""
    types = get_type_hints(type(usual))
    values = {}
    for name, value in entries.items():
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1, cutoff=0)
            raise ConfigError(f"{where}: no setting {name!r}; did you mean {near[0]!r}?")
        if dataclasses.is_dataclass(types[name]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: {name} is a section, found {value!r}")
            values[name] = _build(getattr(usual, name), value, f"{where} [{name}]")
        else:
            values[name] = _convert(types[name], value, f"{where}: {name}")
    return dataclasses.replace(usual, **values)


def _convert(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is tuple:
        item, *rest = get_args(kind)
        if isinstance(value, str) or not isinstance(value, list | tuple):
            value = [value]
        if rest and rest[0] is not Ellipsis and len(value) != 1 + len(rest):
            raise ConfigError(f"{where}: expected {1 + len(rest)} values, found {value!r}")
        return tuple(_convert(item, each, where) for each in value)
    if get_origin(kind) is dict:
        item = get_args(kind)[1]
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a table, found {value!r}")
        return {key: _convert(item, each, where) for key, each in value.items()}
    if isinstance(kind, UnionType):  # "float | None": None only as the default
        kind = get_args(kind)[0]
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{where}: expected {kind.__name__}, found {value!r}")
    return value
