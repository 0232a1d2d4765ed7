"""The card that travels with a model: everything that is not weights."""

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from imaging import terms
from imaging.errors import UnsuitableImage
from imaging.image import Facts
from imaging.preprocessing import Preprocessing
from models.errors import BrokenModel

NOTICE = "For research and teaching. Not a medical device; a score is no diagnosis."

DIGITS = 6
"""Decimals of a probability as it is published: beyond them, processors differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepts:
    """Which DICOM files a model was made for. Photographs say nothing of themselves and pass.

    An attribute a file is silent about contradicts nothing. An empty tuple here asks nothing. Words
    are those of the standard (imaging/terms.py): of a file no others are known.

    Attributes:
        modalities: Modality (0008,0060) values that identify a suitable picture.
        sop_classes: SOP Class UIDs that do so too, whatever the modality.
        body_parts: Words of BodyPartExamined (0018,0015), one of which must be stated if any is.
        views: ViewPosition (0018,5101) values; what is stated may name no other direction.
    """

    modalities: tuple[str, ...] = ()
    sop_classes: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    views: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for entry, words, is_known in (
            ("modalities", self.modalities, terms.MODALITIES.__contains__),
            ("body_parts", self.body_parts, terms.BODY_PARTS.__contains__),
            ("views", self.views, terms.is_view),
        ):
            if unknown := [word for word in words if not is_known(word)]:
                raise BrokenModel(
                    f"accepts: {entry} has {unknown[0]!r}, expected one of imaging/terms.py"
                )

    def contradiction(self, facts: Facts) -> str | None:
        """What in a picture's header speaks against the model: found and expected; or None."""
        if facts.kind != "dicom":
            return None
        if facts.modality and not self.claims(facts) and (self.modalities or self.sop_classes):
            return f"modality is {terms.told(facts.modality)}, expected {_either(self.modalities)}"
        stated = facts.body_part.split()
        if self.body_parts and stated and not set(stated) & set(self.body_parts):
            found = terms.told(facts.body_part)
            return f"body part is {found}, expected {_either(self.body_parts)}"
        seen = set().union(*map(terms.directions, self.views), self.body_parts)
        if self.views and not terms.directions(facts.view) <= seen:
            return f"view is {terms.told(facts.view)}, expected {_either(self.views)}"
        return None

    def claims(self, facts: Facts) -> bool:
        """Whether modality or SOP class positively name a picture of the model's kind."""
        return facts.modality in self.modalities or facts.sop_class in self.sop_classes

    def check(self, facts: Facts, *, force: bool = False) -> str | None:
        """Refuse a picture whose header contradicts the model.

        Args:
            facts: What the header says.
            force: Not to refuse it, but to say what is overridden.

        Raises:
            UnsuitableImage: With what was found and what was expected.
        """
        problem = self.contradiction(facts)
        if problem and not force:
            raise UnsuitableImage(f"not suitable for this model: {problem}")
        return problem


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Written by training, read by everyone else. Reading is strict.

    Attributes:
        name: Folder name under `models/`, such as "chest-xray".
        version: Version of the model, such as "1.0.0".
        labels: Class names, in the order of the logits.
        preprocessing: How a picture becomes this model's input.
        accepts: Which DICOM files the model was made for.
        temperature: What logits are divided by before the softmax (Guo et al. 2017), above 0.
        operating_points: Per label, the probability from which on it counts as found, in [0, 1].
        license: Terms of the weights, in a few words; the LICENSE beside them has them all.
        use: What the model may be used for, for people to read.
        sha256: Digest of `model.onnx`, checked when the model is loaded.
        distribution_sha256: Digest of `distribution.npz`, likewise; "" where there is none.
        training: How it was made: data, split, run, versions. For people and for rebuilding.
        figures: What `care evaluate` measured on the test list, through this very file.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    accepts: Accepts
    temperature: float
    operating_points: dict[str, float]
    license: str
    use: str = NOTICE
    sha256: str = ""
    distribution_sha256: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def found(self, label: str, probability: float) -> bool:
        """Whether a probability, as it is published, reaches its label's operating point."""
        return round(float(probability), DIGITS) >= self.operating_points[label]

    def __post_init__(self) -> None:
        problems = [
            *(["at least two different labels"] if len(set(self.labels)) < 2 else []),
            *(["each label once"] if len(set(self.labels)) < len(self.labels) else []),
            *(["a temperature above 0"] if not self.temperature > 0 else []),
            *(
                ["an operating point for each label, and for no other"]
                if set(self.operating_points) != set(self.labels)
                else []
            ),
            *(
                ["operating points from 0 to 1"]
                if not all(0 <= point <= 1 for point in self.operating_points.values())
                else []
            ),
        ]
        if problems:
            raise BrokenModel(f"card of {self.name!r}: expected {', '.join(problems)}")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read card.json.

        Raises:
            BrokenModel: The file is missing, is no JSON, or an entry is missing, unknown or of a
                wrong type.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise BrokenModel(f"{path.parent.name}: cannot read {path.name}") from error
        except BrokenModel as error:
            raise BrokenModel(f"{path.parent.name}/{path.name}: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a card from JSON; a misspelt entry is an error, never ignored."""
        try:
            entries = json.loads(text)
        except ValueError as error:
            raise BrokenModel(f"not JSON: {error}") from error
        return _strict(cls, entries, "card")

    def to_json(self) -> str:
        """The card as indented JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    def contract(self) -> str:
        """What the graph and the card must agree on, as JSON: labels, preprocessing, thresholds.

        It is stored in the `metadata_props` of `model.onnx`, so that the file alone is enough.
        """
        entries = asdict(self)
        for key in ("sha256", "distribution_sha256", "training", "figures"):
            del entries[key]
        return json.dumps(entries, sort_keys=True)


def _either(values: tuple[str, ...]) -> str:
    return " or ".join(values)


def _is(value: object, kind: Any) -> bool:
    """Whether a value from JSON is of a card's type; true and false are no numbers."""
    if kind is Any:
        return True
    return isinstance(value, (int, float) if kind is float else kind) and type(value) is not bool


def _strict(kind: Any, entries: Any, where: str) -> Any:
    """Build a card dataclass from parsed JSON, refusing what it does not know."""
    if not isinstance(entries, dict):
        raise BrokenModel(f"{where}: expected an object, found {type(entries).__name__}")
    types = get_type_hints(kind)
    if unknown := sorted(set(entries) - set(types)):
        raise BrokenModel(f"{where}: unknown entry {', '.join(unknown)}")
    values = {}
    for name, value in entries.items():
        expected = types[name]
        if expected in (Preprocessing, Accepts):
            values[name] = _strict(expected, value, name)
        elif expected == tuple[str, ...]:
            if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
                raise BrokenModel(f"{where}: {name} must be a list of strings")
            values[name] = tuple(value)
        elif expected in (str, int, float):
            if not _is(value, expected):
                raise BrokenModel(f"{where}: {name} must be {expected.__name__}")
            values[name] = expected(value)
        elif get_origin(expected) is Literal:
            if value not in get_args(expected):
                raise BrokenModel(f"{where}: {name} must be {_either(get_args(expected))}")
            values[name] = value
        else:  # an object
            of = get_args(expected)[1]
            if not isinstance(value, dict) or not all(_is(one, of) for one in value.values()):
                kind_of = "numbers" if of is float else "anything"
                raise BrokenModel(f"{where}: {name} must be an object of {kind_of}")
            values[name] = value
    needed = {item.name for item in fields(kind) if item.default is item.default_factory is MISSING}
    if missing := sorted(needed - set(values)):
        raise BrokenModel(f"{where}: missing {', '.join(missing)}")
    return kind(**values)
