"""The README.md of a model: its card, for people."""

from models.card import ModelCard
from training.config import TrainingRun
from training.data.layouts import group_of
from training.data.splits import PARTS
from training.figures_page import markdown
from training.markdown import table
from training.stability import stability_markdown

BEFORE = {
    "none": "",
    "moco": "Pre-trained on the training list by MoCo-v2, without labels. ",
    "simclr": "Pre-trained on the training list by SimCLR, without labels. ",
}
LEARNT = {
    "care": "the classification loss alone",
    "deep_pneumonia": "Deep Pneumonia's gate and losses, on lesion boxes",
    "proco": "ProCo's proto-loss and the classification loss",
    "ecl": "ECL's proxy loss and its balance-weighted cross-entropy",
}

PAGE = """# {card.name} {card.version}

{card.use} A heatmap shows where the model's evidence lies; it is no segmentation.

{run.model.about}

## Data

{counts}

{together} Input: {input.size} x {input.size} pixels,
{input.color}, {input.fit}.

## How it was made

{backbone} from {weights}. {stages}
The best epoch by mean class accuracy on the validation list was kept. Every setting is in
`card.json` under `training`.{rebuild}

## Figures

On the project's own test list, through this `model.onnx`, as `care evaluate` prints them; 95 %
intervals from a bootstrap over groups.

{figures}
Operating points (Youden's index on the validation list), at temperature {card.temperature}:

{points}

## Limits

{run.model.limits}

## Licence

{card.license}.{terms}
"""


RELIABILITY = """
![How often the top label is right, by how sure the model is](reliability.svg)
"""

STABILITY = """
How often the top label changes when the test pictures are changed by what a person would not mind:

{table}"""


def card_page(card: ModelCard, run: TrainingRun) -> str:
    """Write a card out as Markdown.

    Args:
        card: With recipe and figures.
        run: Its settings; the words for people are in `run.model`.
    """
    counts, network = card.training["pictures"], card.training["run"]["network"]
    return PAGE.format(
        card=card,
        run=run,
        input=card.preprocessing,
        together=f"All pictures of one {group} are in one list."
        if (group := group_of(run.data))
        else "Every picture stands for itself in the lists.",
        rebuild=f" To make it again:\n\n{run.model.rebuild}" if run.model.rebuild else "",
        terms=" The terms are in `LICENSE`, in this folder." if run.model.license_file else "",
        counts=table(
            ["class", *PARTS],
            [[label, *(str(counts[part][label]) for part in PARTS)] for label in card.labels],
        ),
        backbone=network["backbone"],
        weights=network["weights"].replace("none", "random weights"),
        stages=_stages(card, run),
        figures=_figures(card),
        points=table(
            ["class", "found from"],
            [[label, f"{point:.3f}"] for label, point in card.operating_points.items()],
        ),
    )


def _figures(card: ModelCard) -> str:
    if "test" not in card.figures:
        return "Not measured: no test list.\n"
    text = markdown(card.figures["test"]) + RELIABILITY
    if "stability" in card.figures:
        text += STABILITY.format(table=stability_markdown(card.figures["stability"]))
    return text


def _stages(card: ModelCard, run: TrainingRun) -> str:
    before = BEFORE[run.pretraining.name]
    if card.training["stage"] == "stage1":
        return f"{before}Stage 1 only: {LEARNT[run.method]}, no attention loss on top."
    text, care = f"{before}Stage 1 with {LEARNT[run.method]}", run.attention
    if care.attend:
        text += (
            f", then stage 2 with the CARE attention loss on the boxes of {', '.join(care.attend)} "
            f"(alpha {care.alpha}, lambda {care.lam}, tau {care.tau})"
        )
    elif run.control.second_stage:
        text += ", then stage 2 with the same, no attention loss on top"
    if card.training["stage"] == "crt":
        text += ", then the last layer alone, anew, every class equally often"
    return f"{text}."
