"""The two stages of CARE, from first epoch to checkpoint.

Stage 1 trains with the classification loss alone; stage 2 starts from its best epoch and adds the
attention loss (Zhuang et al., MIDL 2019, section 3). Whatever is random hangs on seed, stage and
epoch, so that a run that was killed and resumed ends where an undisturbed one does.
"""

import json
import math
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tomli_w
import torch
from lightning.fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from imaging.preprocessing import Preprocessing
from training.attention import attention_maps, attention_terms
from training.config import AttentionSettings, StageSettings, TrainingRun
from training.data.augmentation import Augmentation
from training.data.cache import PictureCache
from training.data.dataset import Batch, PictureDataset, evaluation_loader, loader
from training.data.manifest import load_samples
from training.data.samplers import SAMPLERS
from training.data.samples import SampleList
from training.data.splits import load_or_make_split, write_split
from training.errors import ConfigError
from training.losses import LOSSES, ClassificationLoss
from training.metrics import mean_class_accuracy
from training.network import Network, build_network, freeze_batch_norm


class StepLosses(NamedTuple):
    """What a training step minimizes and what it is made of; scalars.

    Attributes:
        total: L = (1 - alpha) L_c + alpha L_a.
        l_c: Classification loss.
        l_in: Mean L_in over the pictures with boxes, at most 0; 0 where none has any.
        l_out: Mean L_out over them.
    """

    total: Tensor
    l_c: Tensor
    l_in: Tensor
    l_out: Tensor


def training_step(
    network: Network, batch: Batch, classify: ClassificationLoss, care: AttentionSettings | None
) -> StepLosses:
    """One step of CARE, up to the loss.

    Args:
        network: In training mode.
        batch: Pictures, labels and the masks of the lesion boxes.
        classify: L_c before the mean.
        care: Settings of the attention loss; None in stage 1.
    """
    attended = None if care is None else batch.labels
    logits, maps, _ = network(batch.images, attended, detach=not (care and care.head_learns))
    l_c = weighted_mean(classify(logits, batch.labels), classify.weights(batch.labels))
    if care is None:
        return StepLosses(l_c, l_c, torch.zeros_like(l_c), torch.zeros_like(l_c))

    attention = attention_maps(maps[batch.boxed], batch.images.shape[1])
    inside, outside = attention_terms(attention, batch.inside, batch.outside, tau=care.tau)
    l_in, l_out = mean(inside), mean(outside)
    l_a = l_in + care.lam * l_out
    return StepLosses((1 - care.alpha) * l_c + care.alpha * l_a, l_c, l_in, l_out)


def mean(values: Tensor) -> Tensor:
    """Mean over pictures; 0 where there is none."""
    return values.sum() / max(len(values), 1)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean over pictures, each with its weight."""
    return (weights * values).sum() / weights.sum()


@dataclass
class Progress:
    """How far a stage has come; saved after every epoch.

    Attributes:
        epoch: Epochs done.
        best: Best validation mean class accuracy so far; -1 before the first epoch.
        best_epoch: When that was.
        history: One row per epoch.
    """

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def train(run: TrainingRun, folder: Path, *, cache: Path) -> Path:
    """Train a run through both stages; resume it where it was stopped.

    Args:
        run: The settings.
        folder: Where everything that shaped the run, and its checkpoints, go.
        cache: Where decoded pictures are kept between runs.

    Returns:
        The best checkpoint of the last stage, a .safetensors file.
    """
    fabric = Fabric(devices=1, precision=run.precision)  # type: ignore[arg-type]
    samples = load_samples(run.data)
    parts = split_of(run, samples)
    pictures = PictureCache.open(samples, preprocessing_of(run), cache)
    folder.mkdir(parents=True, exist_ok=True)
    _write_down(run, parts, folder)

    torch.manual_seed(run.seed)
    network = build_network(run.network.backbone, len(samples.labels), weights=_weights_path(run))
    stages: list[tuple[str, StageSettings, AttentionSettings | None]] = [
        ("stage1", run.stage1, None)
    ]
    if run.attention.attend:
        stages.append(("stage2", run.stage2, run.attention))
    checkpoint = folder / "none"
    for number, (name, settings, care) in enumerate(stages):
        checkpoint = folder / f"{name}.safetensors"
        if not checkpoint.with_suffix(".json").exists():
            run_stage(fabric, network, run, parts, pictures, checkpoint, settings, care, number)
        network.load_state_dict(load_file(checkpoint))
    return checkpoint


def run_stage(
    fabric: Fabric,
    network: Network,
    run: TrainingRun,
    parts: dict[str, SampleList],
    pictures: PictureCache,
    checkpoint: Path,
    settings: StageSettings,
    care: AttentionSettings | None,
    number: int,
) -> None:
    """One stage: epochs until patience ends, the best one kept as `checkpoint`."""
    classify = LOSSES[run.loss](torch.from_numpy(parts["train"].counts()))
    dataset = PictureDataset(
        parts["train"],
        pictures,
        augmentation=Augmentation(run.augmentation),
        attention=care,
        seed=run.seed + 1000 * number,
    )
    labels = np.array([item.label for item in parts["train"].samples])
    batches = SAMPLERS[run.sampler.name](labels, run.sampler, seed=run.seed + 1000 * number)
    validation = evaluation_loader(PictureDataset(parts["validation"], pictures), run.sampler.batch)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    model, optimizer = fabric.setup(network.to(memory_format=torch.channels_last), optimizer)
    last = checkpoint.with_suffix(".last.ckpt")
    progress = _resume(last, network, optimizer)

    while (
        progress.epoch < settings.epochs
        and progress.epoch - progress.best_epoch < settings.patience
    ):
        batches.epoch = progress.epoch
        torch.manual_seed(run.seed + 1000 * number + progress.epoch)  # dropout
        model.train()
        if run.network.batch_norm == "frozen":
            freeze_batch_norm(network)
        sums: list[np.ndarray] = []
        title = f"{checkpoint.stem} epoch {progress.epoch + 1}"
        for step, batch in enumerate(
            tqdm(loader(dataset, batches, run.workers), desc=title, leave=False)
        ):
            _set_rate(optimizer, settings, progress.epoch + step / len(batches))
            losses = training_step(model, batch.to(fabric.device), classify, care)
            optimizer.zero_grad()
            fabric.backward(losses.total)
            optimizer.step()
            sums.append(np.array([loss.item() for loss in losses]))

        accuracy = mean_class_accuracy(*predict(model, validation, fabric))
        progress.epoch += 1
        names = ("loss", "l_c", "l_in", "l_out")
        row = dict(zip(names, np.mean(sums, 0).round(6).tolist(), strict=True))
        progress.history.append(
            {"epoch": progress.epoch, **row, "validation_mca": round(accuracy, 6)}
        )
        print(checkpoint.stem, json.dumps(progress.history[-1]), flush=True)
        if accuracy > progress.best:
            progress.best, progress.best_epoch = accuracy, progress.epoch
            _save(network, checkpoint)
        torch.save(
            {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "progress": asdict(progress),
            },
            last.with_suffix(".part"),
        )
        last.with_suffix(".part").rename(last)
    checkpoint.with_suffix(".json").write_text(json.dumps(asdict(progress), indent=1) + "\n")
    last.unlink(missing_ok=True)


@torch.no_grad()
def predict(
    model: Network, batches: Iterable[Batch], fabric: Fabric
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and logits float32 (N, C) of all pictures of a loader, in eval mode."""
    model.eval()
    labels, logits = [], []
    for batch in batches:
        labels.append(batch.labels.numpy())
        logits.append(model(batch.images.to(fabric.device)).logits.float().cpu().numpy())
    return np.concatenate(labels), np.concatenate(logits)


def preprocessing_of(run: TrainingRun) -> Preprocessing:
    """How pictures become this run's input."""
    return Preprocessing(**asdict(run.input))


def split_of(run: TrainingRun, samples: SampleList) -> dict[str, SampleList]:
    """The run's train, validation and test lists."""
    return load_or_make_split(
        samples,
        Path(run.data.split) if run.data.split else None,
        validation=run.data.validation,
        test=run.data.test,
        seed=run.seed,
    )


def _weights_path(run: TrainingRun) -> str:
    weights = run.network.weights
    is_file = weights.endswith((".pth", ".pt", ".safetensors"))
    return str(Path(run.data.root) / weights) if is_file else weights


def _set_rate(optimizer: torch.optim.Optimizer, settings: StageSettings, epoch: float) -> None:
    rate = settings.learning_rate
    if settings.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
    for group in optimizer.param_groups:
        group["lr"] = rate


def _save(network: Network, path: Path) -> None:
    part = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, part)
    part.rename(path)


def _resume(last: Path, network: Network, optimizer: torch.optim.Optimizer) -> Progress:
    if not last.exists():
        return Progress()
    state = torch.load(last, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["progress"])


def _write_down(run: TrainingRun, parts: dict[str, SampleList], folder: Path) -> None:
    """Everything that shapes the run, beside what comes out of it."""
    resolved = tomli_w.dumps(asdict(run))
    written = folder / "run.toml"
    if written.exists() and written.read_text(encoding="utf-8") != resolved:
        raise ConfigError(f"{folder} holds a run with other settings; remove it or choose another")
    written.write_text(resolved, encoding="utf-8")
    assigned = {item.name: part for part, subset in parts.items() for item in subset.samples}
    write_split(assigned, folder / "split.csv")
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    (folder / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")
