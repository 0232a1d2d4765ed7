"""Which models are here."""

from pathlib import Path

from models.card import ModelCard
from models.classifier import Classifier, Provider
from models.errors import BrokenModel, ModelNotFound


def shipped_models() -> Path:
    """The folder of the models that come with the project: this package's own."""
    return Path(__file__).parent


def model_names(folder: Path) -> list[str]:
    """Names of the models below a folder: each subfolder that has a card and is not hidden.

    A hidden one is a draft, which an export has yet to finish.
    """
    return sorted(card.parent.name for card in folder.glob("[!.]*/card.json"))


def load_card(folder: Path, name: str) -> ModelCard:
    """Read one model's card by name, and nothing else of it.

    Raises:
        ModelNotFound: With the names there are.
        BrokenModel: The card cannot be used as it is.
    """
    names = model_names(folder)
    if name not in names:
        raise ModelNotFound(f"no model {name!r}; there are {', '.join(names) or 'none'}")
    card = ModelCard.load(folder / name / "card.json")
    if card.name != name:
        raise BrokenModel(f"{name}: the card is that of {card.name!r}")
    return card


def load_one(
    folder: Path, name: str, *, threads: int = 1, provider: Provider = "cpu", most: int = 16
) -> Classifier:
    """Load one model by name; the arguments are those of `Classifier.load`.

    Raises:
        ModelNotFound: With the names there are.
        BrokenModel: Its folder cannot be used as it is.
    """
    card = load_card(folder, name)
    return Classifier.load(folder / name, card, threads=threads, provider=provider, most=most)
