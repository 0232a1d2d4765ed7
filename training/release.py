"""A trained run → models/<name>/: graph, calibrated card, figures, a page for people, licence."""

import hashlib
import logging
import shutil
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from models.card import Accepts, ModelCard
from models.classifier import Classifier, softmax
from models.distribution import Distribution
from training.calibrate import fit_temperature, operating_points
from training.card_page import card_page
from training.config import TrainingRun
from training.data.layouts import load_samples
from training.data.pictures import read_sample
from training.data.samples import SampleList
from training.data.splits import split_sha256
from training.distribution import fit_distribution
from training.errors import ConfigError
from training.evaluate import Results, classify_list
from training.export import export_model, restamp, texture_width
from training.figures import figures
from training.methods import METHODS
from training.network import Network, load_state
from training.report import plot_reliability
from training.run_folder import check_trained
from training.stability import stability
from training.stages import network_of, preprocessing_of, split_of, stages_of

LOG = logging.getLogger("care")

EXPORT_THREADS = 2
FILES = ("LICENSE", "README.md", "distribution.npz", "reliability.svg", "model.onnx", "card.json")
"""Files of a model, in the order in which they appear."""
VERIFIED_PICTURES = 5  # real pictures on which graph and network are compared, besides noise


def release(
    run: TrainingRun,
    folder: Path,
    out: Path,
    *,
    stage: str | None = None,
    with_stability: bool = False,
) -> ModelCard:
    """Export a run's checkpoint as a model that the service picks up.

    Temperature and operating points are fitted on the validation list, figures measured on the
    test list, both through the exported file.

    Args:
        run: The settings it was trained with.
        folder: The run's folder.
        out: Folder of models; the model goes to `out / run.name`.
        stage: "stage1", "stage2" or "crt"; the last finished one if None.
        with_stability: Measure too how often small changes of the test pictures flip the top label.

    Returns:
        The card as written.

    Raises:
        ConfigError: The run has no such checkpoint, or was trained with other settings or lists.
        ExportError: The graph differs from the network; nothing is written.
    """
    samples = load_samples(run.data)
    parts = split_of(run, samples)
    check_trained(run, samples, parts, folder)
    stage, network = load_checkpoint(run, folder, stage, classes=len(samples.labels))
    card = ModelCard(
        name=run.name,
        version=run.model.version,
        labels=samples.labels,
        preprocessing=preprocessing_of(run),
        accepts=Accepts(
            modalities=run.model.modalities,
            sop_classes=run.model.sop_classes,
            body_parts=run.model.body_parts,
            views=run.model.views,
        ),
        temperature=1.0,
        operating_points=dict.fromkeys(samples.labels, 0.5),
        license=run.model.license,
        training=recipe(run, parts, stage),
    )
    some = parts["validation"].samples[:VERIFIED_PICTURES]
    pictures = np.stack([card.preprocessing(read_sample(item))[0] for item in some])
    target = out / run.name
    draft = target.with_name(f".{run.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # of an export that was killed
    try:
        card = export_model(network, card, draft, pictures=pictures)
        classifier = Classifier.load(draft, threads=EXPORT_THREADS)
        train, validation = (
            classify_list(classifier, parts[part]) for part in ("train", "validation")
        )
        card = calibrated(card, validation)
        content = distribution(network, card, train, validation).to_bytes()
        (draft / "distribution.npz").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        card = restamp(replace(card, distribution_sha256=digest), draft)
        if parts["test"].samples:
            classifier = Classifier.load(draft, threads=EXPORT_THREADS)
            measured = {"test": figures(classify_list(classifier, parts["test"]))}
            plot_reliability(measured["test"], draft / "reliability.svg")
            if with_stability:
                measured["stability"] = stability(classifier, parts["test"])
            card = replace(card, figures=measured)
            (draft / "card.json").write_text(card.to_json(), encoding="utf-8")
        (draft / "README.md").write_text(card_page(card, run), encoding="utf-8")
        if run.model.license_file:
            shutil.copyfile(run.model.license_file, draft / "LICENSE")
        put_in_place(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return card


def put_in_place(draft: Path, target: Path) -> None:
    """Move a model's files into its folder, the card last: it is what vouches for the others.

    What a former model had and this one has not goes, such as the LICENSE of other data. Files that
    are none of a model's stay.
    """
    target.mkdir(parents=True, exist_ok=True)
    made = [name for name in FILES if (draft / name).exists()]
    for name in made:
        (draft / name).replace(target / name)
    for name in set(FILES).difference(made):
        (target / name).unlink(missing_ok=True)


def load_checkpoint(
    run: TrainingRun, folder: Path, stage: str | None, *, classes: int
) -> tuple[str, Network]:
    """The best network of a stage; of the last finished one if None, which is told if more follow.

    Raises:
        ConfigError: The stage is not there, or not finished.
    """
    stages = [each for each in stages_of(run) if each.method in METHODS]  # those that classify
    finished = [each.name for each in stages if (folder / f"{each.name}.json").exists()]
    if not finished or (stage is not None and stage not in finished):
        wanted = stage or "any stage"
        raise ConfigError(f"{folder}: no finished checkpoint of {wanted}; run care train first")
    if stage is None and finished[-1] != stages[-1].name:
        LOG.warning(
            "%s: %s is not finished, this is the network of %s; care train goes on with the rest",
            folder,
            stages[-1].name,
            finished[-1],
        )
    stage = stage or finished[-1]
    state = load_state(folder / f"{stage}.safetensors")
    network = network_of(run, classes)
    network.load_state_dict(state)
    return stage, network.eval()


def distribution(
    network: Network, card: ModelCard, train: Results, validation: Results
) -> Distribution:
    """What the training pictures are like, by their embedding's texture."""
    assert train.embeddings is not None  # they were just computed
    assert validation.embeddings is not None
    width = texture_width(network, card.preprocessing.size)
    return fit_distribution(
        train.embeddings[:, :width], train.truth, validation.embeddings[:, :width]
    )


def calibrated(card: ModelCard, validation: Results) -> ModelCard:
    """The card with temperature and operating points fitted on what it said at temperature 1."""
    # there the logarithm of a probability is the logit, but for a shift that cancels
    logits = np.log(validation.probabilities.clip(1e-300))
    temperature = round(fit_temperature(validation.truth, logits), 4)
    probabilities = softmax(logits / temperature)
    points = operating_points(validation.truth, probabilities)
    return replace(
        card,
        temperature=temperature,
        operating_points=dict(zip(card.labels, points, strict=True)),
    )


def recipe(run: TrainingRun, parts: dict[str, SampleList], stage: str) -> dict[str, Any]:
    """What shaped the model, without paths of the machine it was made on."""
    settings = asdict(run)
    del settings["data"]["root"], settings["model"]
    for section, key in (("data", "split"), ("data", "boxes"), ("network", "weights")):
        settings[section][key] = Path(settings[section][key]).name
    return {
        "stage": stage,
        "run": settings,
        "pictures": {
            part: dict(zip(subset.labels, subset.counts().tolist(), strict=True))
            for part, subset in parts.items()
        },
        "split_sha256": split_sha256(parts),
        "versions": {name: metadata.version(name) for name in ("torch", "torchvision", "onnx")},
    }
