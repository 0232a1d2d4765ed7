"""The stages of a run, from first epoch to checkpoint; what is learnt is the method's affair.

Stage 1 trains by the run's method; stage 2 starts from its best epoch and adds the attention loss
(Zhuang et al., MIDL 2019, section 3). Whatever is random hangs on seed, stage and epoch, so that a
run that was killed and resumed ends where an undisturbed one does, and two processes see the
batches that one sees.
"""

import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning.fabric import Fabric
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from training.config import LossSettings, StageSettings, TrainingRun
from training.data.augmentation import Augmentation
from training.data.cache import PictureCache
from training.data.dataset import Batch, PictureDataset, evaluation_loader, loader
from training.data.layouts import load_samples
from training.data.samples import SampleList
from training.errors import ConfigError
from training.files import complete, named
from training.logs import RunLog, attention_sheet, plot_curves, rare_pictures
from training.losses import make_loss
from training.methods import Method, Processes, Step, Task
from training.metrics import mean_class_accuracy
from training.network import Network, freeze_batch_norm
from training.run_folder import Progress, load_progress, save_progress, save_weights, write_down
from training.stages import (
    Stage,
    check,
    check_attention,
    check_lists,
    network_of,
    preprocessing_of,
    sampler_of,
    split_of,
    stages_of,
    weights_path,
)

LOG = logging.getLogger("care")


def train(
    run: TrainingRun, folder: Path, *, cache: Path, until: str = "", look_for_twins: bool = True
) -> Path:
    """Train a run through its stages; resume it where it was stopped.

    Args:
        run: The settings.
        folder: Where everything that shaped the run, and its checkpoints, go.
        cache: Where decoded pictures are kept between runs.
        until: Name of the last stage to train; "" for all.
        look_for_twins: Warn of pictures that are in two lists; all of them are read for that.

    Returns:
        The best checkpoint of the last stage, a .safetensors file.

    Raises:
        ConfigError: Settings that do not go together, or with the folder, or a loss that is no
            number.
        DataError: The data set is incomplete or contradicts itself.
    """
    check(run)
    samples = load_samples(run.data)
    parts = split_of(run, samples)
    stages = stages_of(run)
    stages = stages[: [stage.name for stage in stages].index(until) + 1] if until else stages
    check_lists(run, stages, parts["train"])
    check_attention(stages, parts["train"])
    for stage in stages:  # decoded here, once, and not by each of several processes
        pictures = PictureCache.open(samples, preprocessing_of(run, stage), cache)
    if look_for_twins:
        tell_twins(pictures.twins(parts))
    write_down(run, samples, parts, folder)
    try:
        fabric = Fabric(
            accelerator=run.accelerator,
            devices=run.devices,
            strategy="ddp_spawn" if run.devices > 1 else "auto",
            precision=run.precision,  # type: ignore[arg-type]
        )
    except (RuntimeError, ValueError) as error:
        found = f"accelerator = {run.accelerator!r}, devices = {run.devices}"
        raise ConfigError(f"{found}, precision = {run.precision!r}: {error}") from error
    fabric.launch(partial(run_stages, run=run, stages=stages, folder=folder, cache=cache))
    return folder / f"{stages[-1].name}.safetensors"


def tell_twins(twins: Sequence[tuple[str, str]]) -> None:
    """Warn of pictures that lists tear apart; pairs of names, as `PictureCache.twins` has them."""
    if twins:
        LOG.warning(
            "the same picture, pixel by pixel, is in two lists under two names, so that what is "
            "measured on it was learnt or chosen by it: %s; give both one group, or leave one out",
            ", ".join(f"{one} = {other}" for one, other in twins[:3])
            + f" and {len(twins) - 3} more" * (len(twins) > 3),
        )


def run_stages(
    fabric: Fabric, run: TrainingRun, stages: Sequence[Stage], folder: Path, cache: Path
) -> None:
    """Train those stages that are not finished yet, in this process."""
    samples = load_samples(run.data)
    parts = split_of(run, samples)
    torch.manual_seed(run.seed)
    network = network_of(run, len(samples.labels), weights=weights_path(run))
    for stage in stages:
        if stage.classifier_only:
            network.renew_classifier(seed=run.seed)
        if not (folder / f"{stage.name}.json").exists():
            pictures = PictureCache.open(samples, preprocessing_of(run, stage), cache)
            with named(folder):
                run_stage(StageWork(fabric, network, run, stage, parts, pictures, folder))
        fabric.barrier()
        network.load_state_dict(load_file(folder / f"{stage.name}.safetensors"))


def run_stage(work: "StageWork") -> None:
    """One stage: epochs until patience ends; the best one is kept as `folder/STAGE.safetensors`."""
    settings, progress = work.stage.settings, work.load()
    log = None
    if work.fabric.is_global_zero:
        log = RunLog(work.folder, work.stage.name, work.method.parts, progress.epoch)
    while (
        progress.epoch < settings.epochs
        and progress.epoch - progress.best_epoch < settings.patience
    ):
        row: dict[str, float] = {"epoch": progress.epoch + 1}
        row |= work.train_epoch(progress.epoch, log) | work.judge()
        progress.epoch += 1
        progress.history.append(row)
        best = row.get("validation_mca", math.inf) > progress.best
        if best:
            progress.best = row.get("validation_mca", progress.best)
            progress.best_epoch = progress.epoch
        if log:
            work.keep(progress, log, best=best)
        work.fabric.barrier()
    if log:
        log.close()
        with complete(work.folder / f"{work.stage.name}.json") as part:
            part.write_text(json.dumps(asdict(progress), indent=1) + "\n", encoding="utf-8")
        work.last.unlink(missing_ok=True)
    work.network.freeze_features(False)


class StageWork:
    """A stage under way: what learns, what it learns from, and where that is kept.

    Attributes:
        method: What brings the losses, with the network in it.
        judged: What is judged and kept: the network, or its running mean.
        last: Checkpoint of the last epoch, from which the stage can go on.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: Network,
        run: TrainingRun,
        stage: Stage,
        parts: dict[str, SampleList],
        pictures: PictureCache,
        folder: Path,
    ) -> None:
        self.fabric, self.network, self.run = fabric, network, run
        self.stage, self.pictures, self.folder = stage, pictures, folder
        self.seed = run.seed + 1000 * stage.number
        self.processes = Processes(fabric)
        self.batches = sampler_of(run, stage, parts["train"], self.processes, self.seed)
        method_type = stage.method_type
        dataset = PictureDataset(
            parts["train"],
            pictures,
            augmentation=Augmentation(run.augmentation if method_type.validated else run.views),
            second=Augmentation(run.views) if method_type.two_views else None,
            attention=method_type.boxes_for(run, stage.care),
            seed=self.seed,
        )
        self.feed = loader(dataset, self.batches, run.workers)
        size = self.batches.batch
        self.validation = evaluation_loader(PictureDataset(parts["validation"], pictures), size)
        self.shown = rare_pictures(parts["validation"], parts["train"])
        self.labels = parts["train"].labels
        network.freeze_features(stage.classifier_only)
        torch.manual_seed(self.seed)  # what the method brings: projections, prototypes
        self.method, self.model, self.optimizers = set_up(
            fabric, network, run, stage, parts["train"], size
        )
        if stage.name == "stage2" and self.method.own_state():
            before = load_file(folder / "stage1.method.safetensors")
            self.method.load_state_dict(before, strict=False)
        share = stage.settings.average
        self.mean = running_mean(network, share) if share else None
        self.judged = cast(Network, self.mean.module) if self.mean else network
        self.learning = [self.method, self.mean] if self.mean else [self.method]
        self.last = folder / f"{stage.name}.last.ckpt"

    def load(self) -> Progress:
        """Go on where the stage was stopped, if it was."""
        # Behind the setup, which moves the network: an optimizer's state follows its parameters.
        return load_progress(self.last, self.learning, self.optimizers)

    def train_epoch(self, epoch: int, log: RunLog | None) -> dict[str, float]:
        """One epoch: each batch's losses, and a step down them.

        Args:
            epoch: How many there were before.
            log: Where steps are written down.

        Returns:
            The mean of each loss.

        Raises:
            ConfigError: The loss is no number any more.
        """
        settings, method = self.stage.settings, self.method
        self.batches.epoch = epoch
        method.start_epoch(epoch, settings.epochs)
        torch.manual_seed(self.seed + epoch)  # dropout, and what a method draws
        training_mode(self.model, self.run, self.stage)
        sums: list[np.ndarray] = []
        title = f"{self.stage.name} epoch {epoch + 1}"
        bar = None if log else True  # None: only where a person looks
        for step, batch in enumerate(tqdm(self.feed, title, leave=False, disable=bar)):
            set_rate(self.optimizers[0], settings, epoch + step / len(self.batches))
            losses = train_step(self.fabric, self.model, method, self.optimizers, batch)
            if self.mean:
                self.mean.update_parameters(self.network)
            means = self.processes.mean(torch.stack([losses[name] for name in method.parts]))
            sums.append(means.cpu().numpy())
            if log:
                log.step(epoch + 1, step, sums[-1].tolist())
        found = dict(zip(method.parts, np.mean(sums, 0).tolist(), strict=True))
        if not math.isfinite(found["loss"]):
            raise ConfigError(
                f"{self.stage.name}, epoch {epoch + 1}: the loss is {found['loss']}, nothing is "
                "learned any more; lower the stage's learning_rate"
            )
        return found

    def judge(self) -> dict[str, float]:
        """Mean class accuracy on the validation list; nothing for a stage without classes."""
        if not self.stage.method_type.validated:
            return {}
        found = self.fabric.broadcast(predict(self.judged, self.validation, self.fabric))
        self.method.after_epoch(*found)
        return {"validation_mca": mean_class_accuracy(*found)}

    def keep(self, progress: Progress, log: RunLog, *, best: bool) -> None:
        """Write down an epoch: weights of the best one, figures, curves, a sheet, a checkpoint."""
        name, folder, row = self.stage.name, self.folder, progress.history[-1]
        if best:
            save_weights(self.judged.state_dict(), folder / f"{name}.safetensors")
            if beside := self.method.own_state():
                save_weights(beside, folder / f"{name}.method.safetensors")
        log.epoch(row)
        words = ", ".join(f"{key} {value:.4g}" for key, value in row.items())
        print(f"{name}: {words}", flush=True)
        every = self.run.sheet_every
        if self.stage.method_type.validated and every and progress.epoch % every == 0:
            sheet = attention_sheet(self.judged.eval(), self.shown, self.pictures, self.labels)
            log.sheet(sheet, progress.epoch)
        plot_curves(progress.history, folder / f"{name}.png", f"{self.run.name} {name}")
        save_progress(self.last, self.learning, self.optimizers, progress)


def set_up(
    fabric: Fabric,
    network: Network,
    run: TrainingRun,
    stage: Stage,
    train_list: SampleList,
    batch: int,
) -> tuple[Method, nn.Module, list[torch.optim.Optimizer]]:
    """A stage's method, the same as it is called on a batch, and its optimizers.

    The first optimizer moves the network, a second one what the method steps itself.
    """
    # cRT's batches are balanced: a remedy in its loss would be a second one (Kang et al. 2020)
    loss = LossSettings() if stage.classifier_only else run.loss
    classify = make_loss(asdict(loss), torch.from_numpy(train_list.counts()))
    task = Task(run, train_list, classify, batch, stage.care, Processes(fabric))
    method = stage.method_type(network, task)
    own = method.own_optimizer()
    optimizers = [make_optimizer(method, own, stage.settings), *([own] if own else [])]
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model, *optimizers = fabric.setup(Step(method), *optimizers)
    return method, model, optimizers


def training_mode(model: nn.Module, run: TrainingRun, stage: Stage) -> None:
    """Let dropout and batch norm work as the run has them in a stage's training."""
    model.train()
    if run.network.batch_norm == "frozen" or stage.classifier_only:
        freeze_batch_norm(model)


def train_step(
    fabric: Fabric,
    model: nn.Module,
    method: Method,
    optimizers: Sequence[torch.optim.Optimizer],
    batch: Batch,
) -> dict[str, Tensor]:
    """A step down the losses of a batch, of what `set_up` gave; the losses before it."""
    losses = model(partial(batch.to, fabric.device))
    optimizers[0].zero_grad()
    fabric.backward(losses["loss"])
    optimizers[0].step()
    method.after_step()
    return losses


def make_optimizer(
    method: Method, own: torch.optim.Optimizer | None, settings: StageSettings
) -> torch.optim.Optimizer:
    """A stage's optimizer, over all that learns but for what the method steps itself."""
    paced = {id(each) for group in own.param_groups for each in group["params"]} if own else set()
    learning = [
        each for each in method.parameters() if each.requires_grad and id(each) not in paced
    ]
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(learning, lr=rate, momentum=0.9, weight_decay=decay)
    return torch.optim.AdamW(learning, lr=rate, weight_decay=decay)


def running_mean(network: Network, share: float) -> AveragedModel:
    """A copy of a network that follows it, and keeps a share of itself at each step."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(share), use_buffers=True)


@torch.no_grad()
def predict(
    network: Network, batches: Iterable[Batch], fabric: Fabric
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and logits float32 (N, C) of all pictures of a loader, in eval mode.

    In the precision of the exported file, whatever the training's: bfloat16 gives one picture in
    fifteen of a hard set another label, and the best epoch would be one by luck.
    """
    network.eval()
    labels, logits = [], []
    for batch in batches:
        labels.append(batch.labels.numpy())
        with torch.autocast(fabric.device.type, enabled=False):
            found = network(batch.images.to(fabric.device)).logits
        logits.append(found.float().cpu().numpy())
    return np.concatenate(labels), np.concatenate(logits)


def set_rate(optimizer: torch.optim.Optimizer, settings: StageSettings, epoch: float) -> None:
    """Set the learning rate for a moment of a stage, in epochs."""
    rate = settings.learning_rate
    if settings.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
    for group in optimizer.param_groups:
        group["lr"] = rate
