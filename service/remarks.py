"""What nobody may miss who looks at an overlay."""

from models.card import ModelCard
from models.classifier import Prediction
from models.distribution import UNLIKE


def remarks(prediction: Prediction, target: str, card: ModelCard, *, forced: bool) -> list[str]:
    """Words to write on the picture.

    Args:
        prediction: The model's opinion of it.
        target: The label whose evidence is shown.
        card: The model's card.
        forced: Whether the file's header contradicted the model, and that was overridden.
    """
    found = card.found(target, prediction.probability(target))
    return [
        *(["forced: not suitable"] if forced else []),
        *([UNLIKE] if prediction.in_distribution is False else []),
        *(["below its operating point"] if not found else []),
    ]
