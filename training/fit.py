"""The stages of CARE, from first epoch to checkpoint.

Stage 1 trains with the classification loss alone; stage 2 starts from its best epoch and adds the
attention loss (Zhuang et al., MIDL 2019, section 3). Whatever is random hangs on seed, stage and
epoch, so that a run that was killed and resumed ends where an undisturbed one does, and two
processes see the batches that one sees.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from imaging.preprocessing import Preprocessing
from training.attention import attention_maps, attention_terms, coarse_masks
from training.config import AttentionSettings, SamplerSettings, StageSettings, TrainingRun
from training.data.augmentation import Augmentation
from training.data.cache import PictureCache
from training.data.dataset import Batch, PictureDataset, evaluation_loader, loader
from training.data.layouts import load_samples
from training.data.samplers import SAMPLERS, Sampler
from training.data.samples import SampleList
from training.data.splits import load_or_make_split
from training.errors import ConfigError
from training.logs import RunLog, attention_sheet, plot_curves, rare_pictures
from training.losses import LOSSES, CrossEntropy, make_loss
from training.metrics import mean_class_accuracy
from training.network import Network, build_network, family_of, freeze_batch_norm, is_file
from training.run_folder import load_progress, save_progress, save_weights, write_down


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
    network: Network,
    batch: Batch,
    classify: CrossEntropy,
    care: AttentionSettings | None,
    shared: Callable[[Tensor], Tensor],
) -> StepLosses:
    """One step of CARE, up to the loss.

    Args:
        network: In training mode.
        batch: Pictures, labels and the masks of the lesion boxes.
        classify: L_c before the mean.
        care: Settings of the attention loss; None in stage 1.
        shared: Mean of a number over all processes, so that their mean losses are those of the
            whole batch.
    """
    if care is None:
        l_c = classification_loss(classify, network(batch.images).logits, batch, shared)
        return StepLosses(l_c, l_c, torch.zeros_like(l_c), torch.zeros_like(l_c))

    logits, maps, _ = network(
        batch.images, batch.labels, pictures=batch.boxed, detach=not care.head_learns
    )
    assert maps is not None  # labels were given
    l_c = classification_loss(classify, logits, batch, shared)
    masks = (coarse_masks(each, *maps.shape[1:]) for each in (batch.inside, batch.outside))
    inside, outside = attention_terms(attention_maps(maps), *masks, tau=care.tau)
    boxed = shared(torch.tensor(float(len(batch.boxed)), device=l_c.device)).clamp(min=1e-6)
    l_in, l_out = inside.sum() / boxed, outside.sum() / boxed
    l_a = l_in + care.lam * l_out
    return StepLosses((1 - care.alpha) * l_c + care.alpha * l_a, l_c, l_in, l_out)


def classification_loss(
    classify: CrossEntropy, logits: Tensor, batch: Batch, shared: Callable[[Tensor], Tensor]
) -> Tensor:
    """L_c: the weighted mean over the whole batch; of mixtures, both classes by their shares."""
    total, weight = torch.zeros((), device=logits.device), torch.zeros((), device=logits.device)
    for labels, shares in ((batch.labels, batch.shares), (batch.partners, 1 - batch.shares)):
        weights = shares * classify.weights(labels)
        total = total + (weights * classify(logits, labels)).sum()
        weight = weight + weights.sum()
    return total / shared(weight)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: Its checkpoint's name.
        number: Sets its random draws apart from those of the others.
        settings: How long and how fast.
        care: The attention loss; None for none.
        sampler: Which pictures make up a batch.
        classifier_only: Train a new last layer on frozen features (cRT).
    """

    name: str
    number: int
    settings: StageSettings
    care: AttentionSettings | None
    sampler: SamplerSettings
    classifier_only: bool = False


def stages_of(run: TrainingRun) -> list[Stage]:
    """The stages that a run's settings ask for, in order."""
    care = run.attention if run.attention.attend else None
    stages = [Stage("stage1", 0, run.stage1, None, run.sampler)]
    if care or run.control.second_stage:
        stages.append(Stage("stage2", 1, run.stage2, care, run.sampler))
    if run.crt.epochs:
        uniform = replace(run.sampler, name="class_uniform")
        stages.append(Stage("crt", 2, run.crt, None, uniform, classifier_only=True))
    return stages


def train(run: TrainingRun, folder: Path, *, cache: Path) -> Path:
    """Train a run through its stages; resume it where it was stopped.

    Args:
        run: The settings.
        folder: Where everything that shaped the run, and its checkpoints, go.
        cache: Where decoded pictures are kept between runs.

    Returns:
        The best checkpoint of the last stage, a .safetensors file.

    Raises:
        ConfigError: Settings that do not go together, or with the folder.
        DataError: The data set is incomplete or contradicts itself.
    """
    check(run)
    samples = load_samples(run.data)
    parts = split_of(run, samples)
    PictureCache.open(samples, preprocessing_of(run), cache)
    write_down(run, samples, parts, folder)
    fabric = Fabric(
        accelerator=run.accelerator,
        devices=run.devices,
        strategy="ddp_spawn" if run.devices > 1 else "auto",
        precision=run.precision,  # type: ignore[arg-type]
    )
    fabric.launch(partial(run_stages, run=run, folder=folder, cache=cache))
    return folder / f"{stages_of(run)[-1].name}.safetensors"


def run_stages(fabric: Fabric, run: TrainingRun, folder: Path, cache: Path) -> None:
    """Train all stages that are not finished yet, in this process."""
    samples = load_samples(run.data)
    parts = split_of(run, samples)
    pictures = PictureCache.open(samples, preprocessing_of(run), cache)
    torch.manual_seed(run.seed)
    network = build_network(
        run.network.backbone,
        len(samples.labels),
        weights=weights_path(run),
        map_layer=run.network.map_layer,
        cosine=LOSSES[run.loss.name].cosine,
    )
    for stage in stages_of(run):
        if stage.classifier_only:
            network.renew_classifier(seed=run.seed)
        if not (folder / f"{stage.name}.json").exists():
            run_stage(fabric, network, run, stage, parts, pictures, folder)
        fabric.barrier()
        network.load_state_dict(load_file(folder / f"{stage.name}.safetensors"))


def run_stage(
    fabric: Fabric,
    network: Network,
    run: TrainingRun,
    stage: Stage,
    parts: dict[str, SampleList],
    pictures: PictureCache,
    folder: Path,
) -> None:
    """One stage: epochs until patience ends; the best one is kept as `folder/STAGE.safetensors`."""
    settings, seed = stage.settings, run.seed + 1000 * stage.number
    classify = make_loss(asdict(run.loss), torch.from_numpy(parts["train"].counts()))
    dataset = PictureDataset(
        parts["train"],
        pictures,
        augmentation=Augmentation(run.augmentation),
        attention=stage.care,
        seed=seed,
    )
    batches = sampler_of(run, stage, parts["train"], fabric, seed)
    feed = loader(dataset, batches, run.workers)
    validation = evaluation_loader(PictureDataset(parts["validation"], pictures), batches.batch)
    shown = rare_pictures(parts["validation"], parts["train"])
    network.freeze_features(stage.classifier_only)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    network.to(memory_format=torch.channels_last)
    last = folder / f"{stage.name}.last.ckpt"
    model, optimizer = fabric.setup(network, optimizer)
    # Behind the setup, which moves the network: an optimizer's state follows its parameters then.
    progress = load_progress(last, network, optimizer)
    log = RunLog(folder, stage.name, progress.epoch) if fabric.is_global_zero else None

    while (
        progress.epoch < settings.epochs
        and progress.epoch - progress.best_epoch < settings.patience
    ):
        epoch = progress.epoch
        batches.epoch = epoch
        classify.start_epoch(epoch / settings.epochs)
        torch.manual_seed(seed + epoch)  # dropout
        model.train()
        if run.network.batch_norm == "frozen" or stage.classifier_only:
            freeze_batch_norm(network)
        sums: list[np.ndarray] = []
        title = f"{stage.name} epoch {epoch + 1}"
        shown_batches = tqdm(feed, title, leave=False, disable=not fabric.is_global_zero)
        for step, batch in enumerate(shown_batches):
            set_rate(optimizer, settings, epoch + step / len(batches))
            losses = training_step(
                model, batch.to(fabric.device), classify, stage.care, mean_over(fabric)
            )
            optimizer.zero_grad()
            fabric.backward(losses.total)
            optimizer.step()
            sums.append(mean_over(fabric)(torch.stack(losses).detach()).cpu().numpy())
            if log:
                log.step(epoch + 1, step, sums[-1].tolist())

        accuracy = mean_class_accuracy(*predict(model, validation, fabric))
        progress.epoch += 1
        means = dict(zip(("loss", "l_c", "l_in", "l_out"), np.mean(sums, 0).tolist(), strict=True))
        row = {"epoch": progress.epoch, **means, "validation_mca": accuracy}
        progress.history.append(row)
        if accuracy > progress.best:
            progress.best, progress.best_epoch = accuracy, progress.epoch
            if log:
                save_weights(network, folder / f"{stage.name}.safetensors")
        if log:
            log.epoch(row)
            words = ", ".join(f"{key} {value:.4g}" for key, value in row.items())
            print(f"{stage.name}: {words}", flush=True)
            if run.sheet_every and progress.epoch % run.sheet_every == 0:
                log.sheet(
                    attention_sheet(network.eval(), shown, pictures, dataset.samples.labels),
                    progress.epoch,
                )
            plot_curves(progress.history, folder / f"{stage.name}.png", f"{run.name} {stage.name}")
            save_progress(last, network, optimizer, progress)
        fabric.barrier()
    if log:
        log.close()
        text = json.dumps(asdict(progress), indent=1) + "\n"
        (folder / f"{stage.name}.json").write_text(text, encoding="utf-8")
        last.unlink(missing_ok=True)
    network.freeze_features(False)


def mean_over(fabric: Fabric) -> Callable[[Tensor], Tensor]:
    """The mean of a tensor over all processes; no gradient passes through it."""

    def everywhere(value: Tensor) -> Tensor:
        return cast(Tensor, fabric.all_reduce(value.detach().clone(), reduce_op="mean"))

    return everywhere


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


def sampler_of(
    run: TrainingRun, stage: Stage, train_list: SampleList, fabric: Fabric, seed: int
) -> Sampler:
    """The batches of a stage, this process's share of them."""
    return SAMPLERS[stage.sampler.name](
        np.array([item.label for item in train_list.samples]),
        stage.sampler,
        seed=seed,
        rank=fabric.global_rank,
        world=fabric.world_size,
        mixup=None if stage.classifier_only else run.mixup,
    )


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
        keep=run.data.keep,
    )


def weights_path(run: TrainingRun) -> str:
    """What the network starts from: a torchvision name, or a file, found from the data's root."""
    weights = run.network.weights
    return str(Path(run.data.root) / weights) if is_file(weights) else weights


def check(run: TrainingRun) -> None:
    """See that a run's settings go together, before anything is read.

    Raises:
        ConfigError: They do not; with what was found and what was expected.
    """
    choices = {
        "loss.name": (run.loss.name, tuple(LOSSES)),
        "sampler.name": (run.sampler.name, tuple(SAMPLERS)),
        "input.fit": (run.input.fit, ("squash", "pad")),
        "input.color": (run.input.color, ("rgb", "gray")),
        "network.batch_norm": (run.network.batch_norm, ("frozen", "train")),
        "network.map_layer": (run.network.map_layer, ("last", "previous")),
        "augmentation.border": (run.augmentation.border, ("reflect", "black")),
        "stage1.schedule": (run.stage1.schedule, ("constant", "cosine")),
        "stage2.schedule": (run.stage2.schedule, ("constant", "cosine")),
        "crt.schedule": (run.crt.schedule, ("constant", "cosine")),
    }
    for name, (found, expected) in choices.items():
        if found not in expected:
            raise ConfigError(f"{name} = {found!r}: expected {', '.join(expected)}")
    ranges = {
        "attention.alpha": (run.attention.alpha, 0 <= run.attention.alpha < 1, "0 to below 1"),
        "attention.tau": (run.attention.tau, 0 < run.attention.tau <= 1, "above 0 to 1"),
        "attention.lam": (run.attention.lam, run.attention.lam >= 0, "at least 0"),
        "augmentation.aspect": (run.augmentation.aspect, run.augmentation.aspect >= 1, "1 or more"),
        "augmentation.zoom": (
            run.augmentation.zoom,
            0 < run.augmentation.zoom[0] <= run.augmentation.zoom[1],
            "above 0, smallest first",
        ),
        "mixup.alpha": (run.mixup.alpha, run.mixup.alpha >= 0, "at least 0"),
        "sampler.batch": (run.sampler.batch, run.sampler.batch >= 1, "1 or more"),
        "sampler.k": (run.sampler.k, run.sampler.k >= 1, "1 or more"),
        "stage1.epochs": (run.stage1.epochs, run.stage1.epochs >= 1, "1 or more"),
        "stage2.epochs": (run.stage2.epochs, run.stage2.epochs >= 1, "1 or more"),
        "stage1.patience": (run.stage1.patience, run.stage1.patience >= 1, "1 or more"),
        "stage2.patience": (run.stage2.patience, run.stage2.patience >= 1, "1 or more"),
        "crt.patience": (run.crt.patience, run.crt.patience >= 1, "1 or more"),
        "devices": (run.devices, run.devices >= 1, "1 or more"),
    }
    for name, (value, fine, wanted) in ranges.items():
        if not fine:
            raise ConfigError(f"{name} = {value}: expected {wanted}")
    fixed = family_of(run.network.backbone).input_size
    if fixed and run.input.size != fixed:
        raise ConfigError(
            f"{run.network.backbone} takes {fixed} pixels, input.size is {run.input.size}"
        )


def set_rate(optimizer: torch.optim.Optimizer, settings: StageSettings, epoch: float) -> None:
    """Set the learning rate for a moment of a stage, in epochs."""
    rate = settings.learning_rate
    if settings.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
    for group in optimizer.param_groups:
        group["lr"] = rate
