"""What attention costs a training step, and whether the loader keeps up.

    python -m benchmarks.training [--quick] [--networks NAME ...] [--steps NAME ...] [--no-loader]

Steps are timed in turn on one network: forward, backward and optimizer, as `care train` runs them
(channels_last, bfloat16 autocast), 32 pictures of 224 pixels, half of them with boxes.

    plain             the classification loss alone
    care              ours: the map's weights in closed form or from the head alone
    two backward      Grad-CAM as one usually has it, and as the paper's authors published it: a
                      backward pass of the true classes' scores through the whole network, caught
                      by a hook at the map, then the backward pass of the loss
    gradient at map   the same with the gradient asked for at the map only

and, on MobileNetV2 alone, those of the other methods with the settings of their runs:

    deep pneumonia    one view, and lesion-only and erased pictures of the half that is marked
    proco             two views: one through the network, one through the momentum encoder
    ecl               two views through the network
    proco + care      proco with the attention loss on top

All of them for the same 32 pictures: a second view, which plain cross-entropy does not see, is not
counted as a picture of its own but as a cost of the method. Momentum encoder and queue move within
the step; what is done once an epoch, and pre-training, are not in it.

Ratios are medians over the rounds of one step's time by another's of the same round. The loader's
rate is that of two workers with a real run's augmentation, on generated pictures with boxes. The
last line is the worst ratio of a CARE step to a plain one.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmarks.measure import Ratio, ratio, ratio_table, show, timed_rounds
from imaging.gradcam import class_maps
from imaging.preprocessing import Preprocessing
from training.attention import attention_terms
from training.config import (
    AttentionSettings,
    LossSettings,
    NetworkSettings,
    SamplerSettings,
    StageSettings,
    TrainingRun,
)
from training.data.augmentation import Augmentation
from training.data.cache import PictureCache
from training.data.dataset import Batch, PictureDataset, loader
from training.data.samplers import Plain
from training.data.samples import Sample, SampleList
from training.fit import set_up, train_step, training_mode
from training.methods import Method
from training.methods.method import classification_loss
from training.stages import Stage, network_of

SIZE, BATCH, CLASSES = 224, 32, 7
NETWORKS = {"resnet18": 1.05, "mobilenet_v2": 1.05, "vgg11": 1.15}
"""Networks, and what a CARE step may cost at most, in plain steps."""
TWO_BACKWARD = 0.75  # what it may cost at most, in steps of the two-backward scheme
APPETITE = 3.0  # how many times what the network eats the loader must deliver
CARE = AttentionSettings(attend=("all",))
STEPS = ("plain", "care", "two backward", "gradient at map")
"""Steps that are timed against each other; the first is what the others are compared with."""
PICTURES = 512  # of the generated set
RUNS = Path(__file__).parent.parent / "training" / "runs"
METHODS: dict[str, tuple[str, AttentionSettings | None]] = {
    "deep pneumonia": ("deep-pneumonia", None),
    "proco": ("proco", None),
    "ecl": ("ecl", None),
    "proco + care": ("proco", CARE),
}
"""Steps of other methods: whose run, and the attention loss on top."""
METHODS_ON = "mobilenet_v2"  # one network will do, and keeps this short


@dataclass
class Bench:
    """One network at work.

    Attributes:
        fabric: Precision and device, as in a run.
        model: The method, as the training loop calls it.
        method: What brings the losses, with the network in it.
        optimizers: As in a run.
        batch: What every step sees.
    """

    fabric: Fabric
    model: nn.Module
    method: Method
    optimizers: list[torch.optim.Optimizer]
    batch: Batch

    def step(self) -> None:
        """A step of the method, as a run takes it."""
        train_step(self.fabric, self.model, self.method, self.optimizers, self.batch)


def by_hand(bench: Bench, *, at_map_only: bool) -> None:
    """A step of CARE whose Grad-CAM weights come from a backward pass of the scores."""
    method, batch, [optimizer] = bench.method, bench.batch, bench.optimizers
    caught: list[Tensor] = []
    with bench.fabric.autocast():
        activations = method.network.activations(batch.images)
        logits = method.network.classify(activations).logits
        score = logits.gather(1, batch.labels[:, None]).sum()
        if at_map_only:
            caught += torch.autograd.grad(score, activations, retain_graph=True)
        else:
            hook = activations.register_hook(caught.append)
            score.backward(retain_graph=True)
            hook.remove()
        weights = caught[0].float().mean((2, 3))
    maps = class_maps(activations.float(), weights[:, None])[:, 0]
    maps = maps[batch.boxed]
    above = maps - maps.amin((1, 2), keepdim=True)
    scaled = above / above.amax((1, 2), keepdim=True)
    attention = interpolate(scaled[:, None], size=(SIZE, SIZE), mode="bilinear")[:, 0]
    terms = attention_terms(attention, batch.inside, batch.outside, tau=CARE.tau)
    l_a = (terms.inside + CARE.lam * terms.outside).mean()
    l_c = classification_loss(method.classify, logits, batch, method.processes)
    optimizer.zero_grad()
    bench.fabric.backward((1 - CARE.alpha) * l_c + CARE.alpha * l_a)
    optimizer.step()


def run(step: Callable[[], None]) -> None:
    """One step, to its end on the device."""
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def picture_set() -> tuple[SampleList, PictureCache]:
    """Generated pictures; every second one has a box."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (PICTURES, SIZE // 8, SIZE // 8, 3), np.uint8)
    pictures = coarse.repeat(8, 1).repeat(8, 2)
    corners = random.uniform(0, SIZE / 2, (PICTURES, 2))
    boxes = np.concatenate([corners, corners + random.uniform(40, 100, (PICTURES, 2))], 1)
    samples = tuple(
        Sample(f"{n}", Path(f"{n}"), n % CLASSES, f"{n}", boxes[n : n + 1 - n % 2])
        for n in range(PICTURES)
    )
    place = Preprocessing(size=SIZE, fit="squash", color="rgb").place(SIZE, SIZE)
    names = [sample.name for sample in samples]
    labels = tuple("abcdefg"[:CLASSES])
    return SampleList(labels, samples), PictureCache(pictures, [place] * PICTURES, names)


def make_bench(own: TrainingRun, backbone: str, care: AttentionSettings | None) -> Bench:
    """A network and its method as a run sets them up, and a batch of the real data set."""
    own = replace(own, network=NetworkSettings(backbone=backbone))
    sampler = SamplerSettings(batch=BATCH)
    stage = Stage("stage2" if care else "stage1", 0, own.stage1, care, sampler, own.method)
    samples, cache = picture_set()
    dataset = PictureDataset(
        samples,
        cache,
        second=Augmentation(own.views) if stage.method_type.two_views else None,
        attention=stage.method_type.boxes_for(own, care),
    )
    torch.manual_seed(0)
    fabric = Fabric(accelerator="auto", devices=1, precision=own.precision)  # type: ignore[arg-type]
    batch = dataset.collate([dataset[n] for n in range(BATCH)]).to(fabric.device)
    assert not care or len(batch.boxed) == BATCH // 2
    network = network_of(own, CLASSES)
    method, model, optimizers = set_up(fabric, network, own, stage, samples, BATCH)
    training_mode(model, own, stage)
    return Bench(fabric, model, method, optimizers, batch)


def steps_of(backbone: str, asked: Sequence[str]) -> dict[str, Callable[[], None]]:
    """The steps asked for, and the plain one, which the others are compared with."""
    usual = TrainingRun(
        name="",
        loss=LossSettings(name="cost_sensitive"),
        stage1=StageSettings(learning_rate=1e-6),
    )
    attending = make_bench(usual, backbone, CARE)
    steps: dict[str, Callable[[], None]] = {
        "plain": make_bench(usual, backbone, None).step,
        "care": attending.step,
        "two backward": partial(by_hand, attending, at_map_only=False),
        "gradient at map": partial(by_hand, attending, at_map_only=True),
    }
    if backbone == METHODS_ON:
        for title in METHODS.keys() & asked:
            name, care = METHODS[title]
            own = TrainingRun.load(RUNS / f"{name}.toml")
            steps[title] = make_bench(own, backbone, care).step
    return {step: steps[step] for step in dict.fromkeys(["plain", *asked]) if step in steps}


def loader_rate(rounds: int) -> float:
    """Pictures per second that the loader delivers with two workers; the first epoch warms up."""
    samples, cache = picture_set()
    with tempfile.TemporaryDirectory() as folder:
        # Workers map the file of a real cache; they take no copy of the pictures along.
        file = Path(folder) / "pictures.npy"
        np.save(file, cache.pictures)
        cache.pictures = np.load(file, mmap_mode="r")
        dataset = PictureDataset(
            samples,
            cache,
            augmentation=Augmentation(TrainingRun.load(RUNS / "dermoscopy.toml").augmentation),
            attention=CARE,
        )
        labels = np.array([sample.label for sample in samples.samples])
        batches = Plain(labels, SamplerSettings(batch=BATCH), seed=0)
        feed = loader(dataset, batches, 2)
        rates = []
        for epoch in range(rounds + 1):
            batches.epoch = epoch
            start = time.perf_counter()
            pictures = sum(len(batch.images) for batch in feed)
            rates.append(pictures / (time.perf_counter() - start))
    return median(rates[1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--steps", nargs="+", choices=[*STEPS, *METHODS])
    parser.add_argument("--no-loader", action="store_true", help="time the steps alone")
    options = parser.parse_args()
    asked = options.steps or [*STEPS, *METHODS]
    rounds = 3 if options.quick else 11
    worst, appetite = 0.0, 0.0
    found: list[Ratio] = []
    for name in options.networks:
        steps = {step: partial(run, take) for step, take in steps_of(name, asked).items()}
        times = timed_rounds(steps, rounds=rounds)
        medians = {step: median(taken) for step, taken in times.items()}
        show(f"{name}, {BATCH} pictures of {SIZE} pixels, one step", medians)
        targets = {("care", "plain"): NETWORKS[name], ("care", "two backward"): TWO_BACKWARD}
        pairs = [(step, "plain") for step in times] + [
            ("care", step) for step in asked if step in STEPS
        ]
        for one, other in dict.fromkeys(pairs):
            if one != other and {one, other} <= times.keys():
                found.append(
                    Ratio(
                        f"step of {name}: {one}",
                        other,
                        ratio(times, one, other),
                        "the cost",
                        at_most=targets.get((one, other)),
                    )
                )
        if "care" in times:
            worst = max(worst, ratio(times, "care", "plain"))
        if name == "mobilenet_v2":
            appetite = 1000 * BATCH / medians["plain"]
        del steps
    if appetite and not options.no_loader:
        rate = loader_rate(rounds)
        print(f"loader: {rate:.0f} pictures/s, mobilenet_v2 eats {appetite:.0f}/s")
        found.append(
            Ratio(
                "loader, pictures per second",
                "what mobilenet_v2 eats",
                rate / appetite,
                "as many",
                at_least=APPETITE,
            )
        )
    print(ratio_table(found))
    print(f"ratio: {worst:.3f}")


if __name__ == "__main__":
    main()
