"""Methods as the loop sees them: what each part adds, what processes share, what is refused."""

import copy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from torch.nn.functional import cross_entropy

import training
from tests.training.test_ecl import bhp_reference
from tests.training.tiny import (
    CLASSES,
    make_batch,
    rectangles,
    sample,
    sample_list,
    tiny_network,
    tiny_pictures,
)
from training.config import (
    AttentionSettings,
    MixUpSettings,
    NetworkSettings,
    PretrainingSettings,
    SamplerSettings,
    StageSettings,
    TrainingRun,
)
from training.data.dataset import Batch
from training.data.samplers import Plain
from training.errors import ConfigError
from training.losses import make_loss
from training.method_settings import DeepPneumoniaSettings, ECLSettings, ProCoSettings
from training.methods import METHODS, PRETRAINING, Method, Processes, Task
from training.methods.deep_pneumonia import hard_attention_loss, hard_mask, steady_statistics
from training.methods.proco import proto_instances
from training.network import SpatialGate, freeze_batch_norm
from training.stages import check, preprocessing_of, sampler_of, stages_of

BATCH = 8
LABELS = [0, 3, 1, 3, 2, 0, 0, 1]
BOXES = {1: [(2, 3, 9, 11)], 3: [(0, 0, 5, 5), (10, 8, 16, 16)], 4: [(4, 4, 12, 12)]}
TRAIN = sample_list(
    *(
        sample(f"{label}-{n}.png", label, boxes=[(1, 1, 5, 5)] if label else [])
        for label, count in enumerate((24, 8, 4, 2))
        for n in range(count)
    )
)
SETTINGS = {
    "care": {},
    "deep_pneumonia": {
        "deep_pneumonia": DeepPneumoniaSettings(lesion_free=("a",), lesion_only=0.5)
    },
    "proco": {"proco": ProCoSettings(queue=16, rows=6, online=True, prior="quarter")},
    "ecl": {"ecl": ECLSettings(rows=6)},
    "moco": {"pretraining": PretrainingSettings(name="moco", batch=BATCH, queue=16, rows=6)},
    "simclr": {"pretraining": PretrainingSettings(name="simclr", batch=BATCH, rows=6)},
}
USUAL = {"deep_pneumonia": "class_balanced", "proco": "logit_adjusted"}


def pooled(network, images: torch.Tensor) -> torch.Tensor:
    return network.embed(network.activations(images))


def tiny_run(name: str, **settings) -> TrainingRun:
    method = name if name in METHODS else "care"
    return TrainingRun(name="tiny", method=method, **(SETTINGS[name] | settings))


def tiny_method(
    name: str,
    *,
    care: AttentionSettings | None = None,
    processes: Processes | None = None,
    **settings,
) -> Method:
    """A method around a tiny network; no dropout, frozen batch norm: its losses are a function."""
    network = tiny_network("linear")
    if name == "deep_pneumonia":
        network.features.append(SpatialGate())
    run = tiny_run(name, **settings)
    loss = make_loss({"name": USUAL.get(name, "cross_entropy")}, torch.from_numpy(TRAIN.counts()))
    torch.manual_seed(3)
    task = Task(run, TRAIN, loss, BATCH, care, processes or Processes())
    method = (METHODS | PRETRAINING)[name](network, task).train()
    freeze_batch_norm(method)
    return method


def tiny_batch(seed: int = 1, *, rank: int = 0, world: int = 1) -> Batch:
    """A process's share of a batch with two views and marks."""
    own = list(range(BATCH))[rank::world]
    masks = {own.index(n): rectangles(boxes) for n, boxes in BOXES.items() if n in own}
    first, second = tiny_pictures(BATCH, seed=seed), tiny_pictures(BATCH, seed=seed + 50)
    return make_batch(first[own], [LABELS[n] for n in own], masks)._replace(second=second[own])


def a_few_steps(fabric: Fabric, folder: Path, care: AttentionSettings) -> None:
    """Three steps of every method; what came of it goes to FOLDER/NAME.pt."""
    torch.set_num_threads(1)
    for name in SETTINGS:
        with_care = care if name in METHODS else None
        method = tiny_method(name, care=with_care, processes=Processes(fabric))
        optimizer = torch.optim.SGD(
            [each for each in method.parameters() if each.requires_grad], lr=0.05
        )
        model, optimizer = fabric.setup(method, optimizer)
        rows = []
        method.start_epoch(4, 10)
        for step in range(3):
            torch.manual_seed(step)
            share = tiny_batch(step, rank=fabric.global_rank, world=fabric.world_size)
            losses = model(share)
            optimizer.zero_grad()
            fabric.backward(losses["loss"])
            optimizer.step()
            method.after_step()
            rows.append(method.processes.mean(torch.stack(list(losses.values()))))
        logits = np.random.default_rng(0).normal(size=(20, CLASSES))
        method.after_epoch(np.arange(20) % CLASSES, logits)
        if fabric.is_global_zero:
            state = {key: value.clone() for key, value in method.state_dict().items()}
            torch.save({"losses": torch.stack(rows), "state": state}, folder / f"{name}.pt")
        fabric.barrier()


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory) -> tuple[Path, Path]:
    """What all methods come to in one process, and in two that share their batches."""
    folders = tuple(tmp_path_factory.mktemp(name) for name in ("one", "two"))
    care = AttentionSettings(attend=("b", "d"))
    for devices, folder in enumerate(folders, 1):
        fabric = Fabric(
            accelerator="cpu", devices=devices, strategy="ddp_spawn" if devices > 1 else "auto"
        )
        fabric.launch(partial(a_few_steps, folder=folder, care=care))
    return folders


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_come_to_the_losses_and_the_state_of_one(one_and_two, name):
    one, two = (torch.load(folder / f"{name}.pt") for folder in one_and_two)

    torch.testing.assert_close(one["losses"], two["losses"], rtol=1e-4, atol=1e-5)
    assert one["losses"].isfinite().all()
    for key, value in one["state"].items():
        other = two["state"][key]
        torch.testing.assert_close(value, other, rtol=1e-3, atol=1e-5, msg=lambda m, k=key: k + m)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_method_names_its_losses_and_lets_everything_learn_that_is_not_slow(name):
    method = tiny_method(name)
    losses = method(tiny_batch())
    losses["loss"].backward()

    assert set(losses) == set(method.parts)
    assert method.parts[0] == "loss"
    for key, value in method.named_parameters():
        slow = key.startswith("key.")
        unused = name in PRETRAINING and key.startswith("network.head")
        assert (value.grad is None) == (slow or unused), key
        assert value.requires_grad == (not slow and not unused), key


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_brings_beside_the_network_is_no_part_of_what_is_exported(name):
    method = tiny_method(name)

    plain = {key for key in tiny_network("linear").state_dict()}
    exported = set(method.network.state_dict())

    gate = {"features.6.conv.weight", "features.6.conv.bias"}
    assert exported == (plain | gate if name == "deep_pneumonia" else plain)
    assert not any(key.startswith("network.") for key in method.own_state())
    assert bool(method.own_state()) == (name in ("proco", "ecl"))


def losses_of(name: str, *, care: AttentionSettings | None = None, **settings) -> dict[str, float]:
    method = tiny_method(name, care=care, **settings)
    if name == "proco":  # a queue that holds some of the classes
        method.queue.push(torch.randn(BATCH, 6), torch.tensor([0, 0, 1, 1, 2, 2, 0, 1]))
    torch.manual_seed(0)
    return {key: value.item() for key, value in method(tiny_batch()).items()}


@pytest.mark.parametrize("name", ["deep_pneumonia", "proco", "ecl"])
def test_the_attention_loss_goes_on_top_of_a_method(name):
    care = AttentionSettings(attend=("b", "d"), alpha=0.3, lam=0.7)
    without, with_it = losses_of(name), losses_of(name, care=care)

    assert with_it["l_in"] < 0 < with_it["l_out"]
    l_a = with_it["l_in"] + 0.7 * with_it["l_out"]
    assert with_it["loss"] == pytest.approx(0.7 * without["loss"] + 0.3 * l_a, rel=1e-5)
    method = tiny_method(name, care=care)
    activations = method.network.activations(tiny_batch().images)
    only_b_and_d = make_batch(
        tiny_pictures(BATCH), LABELS, {n: rectangles(BOXES[n]) for n in (1, 3)}
    )
    expected = method.with_attention(only_b_and_d, activations, torch.zeros(()))  # 4 is of class c
    assert with_it["l_in"] == pytest.approx(expected["l_in"].item(), rel=1e-5)


def test_each_part_of_deep_pneumonia_adds_its_share_and_can_be_switched_off():
    parts = {"lesion_free": ("a",), "attention": 0.5, "regulation": 0.1}
    whole = losses_of("deep_pneumonia", deep_pneumonia=DeepPneumoniaSettings(**parts))

    assert whole["loss"] == pytest.approx(
        whole["l_c"] + 0.5 * whole["l_att"] + 0.1 * whole["l_cr"], rel=1e-5
    )
    for part, key in (("attention", "l_att"), ("regulation", "l_cr")):
        off = losses_of(
            "deep_pneumonia", deep_pneumonia=DeepPneumoniaSettings(**(parts | {part: 0.0}))
        )
        assert off["loss"] == pytest.approx(whole["loss"] - parts[part] * whole[key], rel=1e-5)
        assert whole[key] > 0


def test_pictures_without_a_mark_take_part_only_where_they_are_known_to_hold_no_lesion():
    method = tiny_method("deep_pneumonia", deep_pneumonia=DeepPneumoniaSettings())
    batch = tiny_batch()
    _, before, _ = method.through(batch.images)
    logits = method.gate.logits(before)[:, 0]
    mask = hard_mask(batch.inside, (4, 4))
    marked = hard_attention_loss(logits[batch.boxed], mask)
    free = hard_attention_loss(logits[[0, 5, 6]], torch.zeros(3, 4, 4))  # class a, no marks

    unmarked_left_out = losses_of("deep_pneumonia", deep_pneumonia=DeepPneumoniaSettings())
    with_free = losses_of(
        "deep_pneumonia", deep_pneumonia=DeepPneumoniaSettings(lesion_free=("a",))
    )

    assert unmarked_left_out["l_att"] == pytest.approx(marked.mean().item(), rel=1e-5)
    expected = torch.cat([marked, free]).mean().item()
    assert with_free["l_att"] == pytest.approx(expected, rel=1e-5)


def test_lesion_only_training_shows_the_classifier_marked_cells_and_whole_pictures_elsewhere():
    method = tiny_method("deep_pneumonia", deep_pneumonia=DeepPneumoniaSettings(lesion_only=1.0))
    batch = tiny_batch()
    _, _, activations = method.through(batch.images)
    mask = hard_mask(batch.inside, (4, 4))

    seen = method.lesions_only(batch, activations, mask)

    for n in range(BATCH):
        kept = mask[list(BOXES).index(n)] if n in BOXES else torch.ones(4, 4)
        torch.testing.assert_close(seen[n], activations[n] * kept)


def features_of_stages(method: Method, images: torch.Tensor) -> list[np.ndarray]:
    """Pooled maps behind the last layer of each resolution, in float64."""
    layers = copy.deepcopy(method.network.features).double().eval()
    maps, found = method.network.normalized(images.double()), []
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        maps = layer(maps)
        # of a tiny network, whose convolutions have stride 2: the layers before the next one
        if following is None or isinstance(following, torch.nn.Conv2d):
            found.append(maps.mean((2, 3)).detach().numpy())
    return found


@pytest.mark.parametrize("form", ["ratio", "infonce"])
def test_regulation_weighs_the_stages_and_averages_over_the_marked_pictures(form):
    settings = DeepPneumoniaSettings(regulation=1.0, regulation_form=form, temperature=0.3)
    method, batch = tiny_method("deep_pneumonia", deep_pneumonia=settings), tiny_batch()
    pictures = batch.images[batch.boxed].double()
    inside = batch.inside[..., None].double()
    mean = pictures.mean((1, 2), keepdim=True)
    lesion, erased = (m * pictures + (1 - m) * mean for m in (inside, 1 - inside))

    found = method(batch)["l_cr"].item()

    expected = 0.0
    stages = [features_of_stages(method, each) for each in (pictures, lesion, erased)]
    assert len(stages[0]) == 2
    for omega, *features in zip((0.5, 1.0), *stages, strict=True):
        for v, near, far in zip(*features, strict=True):
            if form == "ratio":
                term = min(10, np.abs(v - near).sum() / np.abs(v - far).sum())
            else:
                one, other = (
                    np.exp(v @ w / np.linalg.norm(v) / np.linalg.norm(w) / 0.3) for w in (near, far)
                )
                term = -np.log(one / (one + other))
            expected += omega * term / len(BOXES)
    assert found == pytest.approx(expected, rel=1e-4)


def test_batch_norm_learns_of_the_pictures_themselves_alone():
    method = tiny_method("deep_pneumonia", deep_pneumonia=DeepPneumoniaSettings()).train()
    plain = copy.deepcopy(method.network).train()

    method(tiny_batch())
    plain.activations(tiny_batch().images)

    for key, value in plain.state_dict().items():
        if "running" in key:
            torch.testing.assert_close(method.network.state_dict()[key], value)


def test_a_marked_picture_counts_as_marked_even_if_its_label_is_called_free_of_lesions():
    found = [
        losses_of("deep_pneumonia", deep_pneumonia=DeepPneumoniaSettings(lesion_free=free))["l_att"]
        for free in ((), ("d",))  # all pictures of which are marked
    ]

    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_every_box_is_a_mark_whatever_the_attention_loss_attends_to():
    run = tiny_run("deep_pneumonia")
    care = AttentionSettings(attend=("b",), box_scale=1.5)

    marks = METHODS["deep_pneumonia"].boxes_for

    assert marks(run, care) == AttentionSettings(attend=("all",), box_scale=1.5)
    assert marks(run, None).attend == ("all",)
    assert METHODS["ecl"].boxes_for(run, care) is care
    assert METHODS["ecl"].boxes_for(run, None) is None


def test_reference_passes_leave_batch_norm_as_it_was():
    method = tiny_method("deep_pneumonia").train()
    before = {key: value.clone() for key, value in method.network.state_dict().items()}
    with torch.no_grad(), steady_statistics(method.network):
        method.network(tiny_pictures(4))

    for key, value in method.network.state_dict().items():
        if "num_batches" not in key:
            torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    assert method.network.features[1].momentum == 0.1


def proco(**changed) -> dict[str, float]:
    base = {"queue": 16, "rows": 6, "prior": "none"}
    return losses_of("proco", proco=ProCoSettings(**(base | changed)))


def test_each_part_of_proco_changes_the_loss():
    whole = proco()

    assert whole["loss"] == pytest.approx(whole["l_pl"] + whole["l_c"], rel=1e-6)
    assert proco(eta=0.5)["loss"] == pytest.approx(whole["l_pl"] + 0.5 * whole["l_c"], rel=1e-6)
    only_prototypes = proco(instances=False)
    neither = proco(instances=False, prototypes=False)
    # The doubled prototypes of rho = 1, epsilon = 0 are counted twice; every part is another loss.
    values = [
        found["l_pl"] for found in (whole, only_prototypes, neither, proco(rho=1.0, epsilon=0.0))
    ] + [proco(prior="quarter")["l_pl"], proco(epsilon=0.0)["l_pl"]]
    assert len({round(value, 6) for value in values}) == len(values)
    assert proco(epsilon=0.2)["l_pl"] > proco(epsilon=0.1)["l_pl"] > proco(epsilon=0.0)["l_pl"]


def test_proco_in_the_classifiers_space_is_paco():
    settings = ProCoSettings(
        queue=16, rows=6, prior="none", space="classifier", instances=False, eta=0.0
    )
    method = tiny_method("proco", proco=settings)
    method.queue.push(torch.randn(BATCH, 6), torch.tensor([0, 0, 1, 1, 2, 2, 0, 1]))
    batch = tiny_batch()

    found = method(batch)

    with torch.no_grad():
        outputs = method.network(batch.images)
        q = torch.nn.functional.normalize(
            torch.nn.Sequential(*method.project)(outputs.embedding)
        ).numpy()
        k = method.key(batch.second).numpy()
    z = np.concatenate([q, k, method.queue.rows[:BATCH].numpy()])
    others = LABELS + LABELS + [0, 0, 1, 1, 2, 2, 0, 1]
    prior = TRAIN.counts() / TRAIN.counts().sum()
    total = 0.0
    for i, y in enumerate(LABELS):
        logits = outputs.logits[i].numpy() + np.log(prior)
        s = {j: q[i] @ z[j] / 0.07 for j in range(len(z)) if j != i}
        log_z = np.log(np.exp(logits).sum() + sum(np.exp(value) for value in s.values()))
        own = [j for j in s if others[j] == y]
        value = (logits[y] - log_z) + 0.05 * sum(s[j] - log_z for j in own)
        total -= value / (1 + 0.05 * len(own)) / BATCH
    assert found["loss"].item() == pytest.approx(total, rel=1e-4)


def test_the_share_of_a_prototype_is_drawn_from_rho_to_one(monkeypatch):
    drawn = []

    def listening(*arguments, rho, **options):
        drawn.append(rho)
        return proto_instances(*arguments, rho=rho, **options)

    monkeypatch.setattr("training.methods.proco.proto_instances", listening)
    method = tiny_method("proco", proco=ProCoSettings(queue=16, rows=6, rho=0.7))
    for step in range(40):
        method(tiny_batch(step))

    shares = torch.stack(drawn)
    assert shares.shape == (40, BATCH, CLASSES)
    assert 0.7 <= shares.min() < 0.71
    assert 0.99 < shares.max() <= 1
    assert shares.mean().item() == pytest.approx(0.85, abs=0.01)


@pytest.mark.parametrize("online", [False, True])
def test_sure_classes_weigh_less_only_where_that_is_asked_for(online):
    settings = ProCoSettings(queue=16, rows=6, instances=False, online=online)
    method = tiny_method("proco", proco=settings)
    before = method(tiny_batch())["l_pl"].item()

    method.confidence.copy_(torch.tensor([0.9, 0.1, 0.5, 0.0]))

    assert (method(tiny_batch())["l_pl"].item() != before) == online


def test_prototypes_are_compared_by_their_directions():
    method = tiny_method("proco", proco=ProCoSettings(queue=16, rows=6, instances=False))
    before = method(tiny_batch())["l_pl"].item()

    with torch.no_grad():
        method.prototypes *= torch.tensor([[0.1], [1.0], [5.0], [30.0]])

    assert method(tiny_batch())["l_pl"].item() == pytest.approx(before, rel=1e-5)


def test_prototypes_start_anew_from_the_mean_keys_of_the_first_epoch():
    method = tiny_method("proco")
    random = method.prototypes.detach().clone()
    sums = torch.zeros(CLASSES, 6)
    for step in range(2):
        batch = tiny_batch(step)._replace(labels=torch.tensor([0, 0, 1, 1, 2, 2, 0, 1]))
        method(batch)
        for key, label in zip(method.seen[0], batch.labels, strict=True):
            sums[label] += key
        method.after_step()
    method.after_epoch(np.zeros(1, int), np.zeros((1, CLASSES)))

    means = sums / sums.norm(dim=1, keepdim=True)
    torch.testing.assert_close(method.prototypes[:3].detach(), means[:3])
    torch.testing.assert_close(method.prototypes[3].detach(), random[3])  # never seen
    method.after_epoch(np.zeros(1, int), np.zeros((1, CLASSES)))
    torch.testing.assert_close(method.prototypes[:3].detach(), means[:3])  # once only


def test_confidence_follows_the_classes_that_occur():
    method = tiny_method("proco")
    method(tiny_batch()._replace(labels=torch.tensor([0, 0, 1, 1, 0, 0, 0, 1])))
    probabilities = method.seen[1]
    method.after_step()

    expected = 0.01 * torch.stack(
        [probabilities[[0, 1, 4, 5, 6], 0].mean(), probabilities[[2, 3, 7], 1].mean()]
    )
    torch.testing.assert_close(method.confidence[:2], expected)
    assert method.confidence[2:].tolist() == [0, 0]


def test_each_part_of_ecl_adds_its_share():
    whole = losses_of("ecl")
    assert whole["loss"] == pytest.approx(2 * whole["l_c"] + whole["l_bhp"], rel=1e-6)
    off = losses_of("ecl", ecl=ECLSettings(rows=6, contrast=0.0))
    assert off["loss"] == pytest.approx(2 * whole["l_c"], rel=1e-5)
    late = {}
    for weighted in (True, False):
        method = tiny_method("ecl", ecl=ECLSettings(rows=6, weighted=weighted))
        method.start_epoch(49, 100)
        late[weighted] = method(tiny_batch())["l_c"].item()
    logits = method.network(tiny_batch().images).logits
    plain = cross_entropy(logits, torch.tensor(LABELS)).item()
    counts = torch.tensor([24.0, 8, 4, 2])
    weighted = cross_entropy(logits, torch.tensor(LABELS), weight=1 / counts).item()
    assert late[False] == pytest.approx(plain, rel=1e-5)
    assert late[True] == pytest.approx(weighted, rel=1e-5)


def test_the_proxy_loss_takes_both_views_of_each_picture_and_all_proxies_with_their_labels():
    method, batch = tiny_method("ecl"), tiny_batch()

    found = method(batch)["l_bhp"].item()

    with torch.no_grad():
        rows = [method.project(pooled(method.network, each)) for each in (batch[0], batch.second)]
        rows.append(torch.nn.functional.normalize(method.proxies))
    # of 24, 8, 4 and 2 pictures: 1 proxy of the largest class, floor(24 / n / 10) + 2 of others
    labels = LABELS + LABELS + [0, 1, 1, 2, 2, 3, 3, 3]
    expected = bhp_reference(torch.cat(rows).double().numpy(), labels, 0.1)
    assert found == pytest.approx(expected, rel=1e-4)


def test_late_in_a_stage_classes_weigh_by_what_validation_found():
    method = tiny_method("ecl")
    method.start_epoch(0, 100)
    method.after_epoch(np.array([0, 1, 2, 2, 3]), np.eye(CLASSES)[[0, 1, 2, 1, 0]])

    method.start_epoch(99, 100)

    inverse = 1 / np.array([2 / 3, 2 / 3, 2 / 3, 0.05])  # d is never found, and kept from 0
    np.testing.assert_allclose(method.classify.class_weights, inverse / inverse.mean(), rtol=1e-5)


def test_proxies_gather_their_gradient_over_an_epoch_and_move_once():
    method = tiny_method("ecl")
    before = method.proxies.detach().clone()
    gathered = torch.zeros_like(before)
    for step in range(3):
        loss = method(tiny_batch(step))["loss"]
        gathered += torch.autograd.grad(loss, method.proxies, retain_graph=True)[0]
        loss.backward()
        method.after_step()
        torch.testing.assert_close(method.proxies.detach(), before, rtol=0, atol=0)

    method.after_epoch(np.array([0, 1, 2, 2]), np.eye(CLASSES)[[0, 1, 2, 1]])

    torch.testing.assert_close(method.proxies.detach(), before - 0.002 * gathered)
    assert method.proxies.grad is None
    np.testing.assert_allclose(method.f1, [1, 2 / 3, 2 / 3, 1], rtol=1e-6)  # d: not in the list
    assert method.own_optimizer().param_groups[0]["params"][0] is method.proxies
    # momentum 0.9, also where nothing pulls any more
    method.proxies.grad = torch.zeros_like(before)
    method.after_epoch(np.array([0, 1, 2, 2]), np.eye(CLASSES)[[0, 1, 2, 1]])
    torch.testing.assert_close(method.proxies.detach(), before - 0.002 * 1.9 * gathered)


def test_moco_tells_a_pictures_second_view_from_the_keys_of_earlier_ones():
    method, queued = tiny_method("moco"), torch.nn.functional.normalize(torch.randn(BATCH, 6))
    method.queue.push(queued, torch.zeros(BATCH, dtype=torch.int64))
    with torch.no_grad():  # a key encoder that is not the query encoder
        for slow in method.key.parameters():
            slow.mul_(0.9)
    network, project = copy.deepcopy(method.key.copies)
    batch = tiny_batch()
    with torch.no_grad():
        q = method.project(pooled(method.network, batch.images)).double().numpy()
        k = project(pooled(network, batch.second)).double().numpy()

    found = method(batch)["loss"].item()
    method.after_step()

    losses = []
    for one, own in zip(q, k, strict=True):
        others = sum(np.exp(one @ other / 0.2) for other in queued.double().numpy())
        losses.append(-np.log(np.exp(one @ own / 0.2) / (np.exp(one @ own / 0.2) + others)))
    assert found == pytest.approx(np.mean(losses), rel=1e-4)
    np.testing.assert_allclose(method.queue.rows, [*queued.numpy(), *k], atol=1e-5)
    for slow, before, fast in zip(
        method.key.parameters(),
        [*network.parameters(), *project.parameters()],
        [*method.network.parameters(), *method.project.parameters()],
        strict=True,
    ):
        torch.testing.assert_close(slow, 0.999 * before + 0.001 * fast.detach())


def test_simclr_tells_two_views_of_a_picture_from_all_others():
    method, batch = tiny_method("simclr"), tiny_batch()

    found = method(batch)["loss"].item()

    with torch.no_grad():
        views = [method.project(pooled(method.network, each)) for each in (batch[0], batch.second)]
    z = torch.cat(views).double().numpy()
    losses = []
    for i in range(2 * BATCH):
        below = sum(np.exp(z[i] @ z[a] / 0.2) for a in range(2 * BATCH) if a != i)
        losses.append(-np.log(np.exp(z[i] @ z[(i + BATCH) % (2 * BATCH)] / 0.2) / below))
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_late_weighting_starts_with_the_first_epoch_behind_its_share_of_the_stage():
    method = tiny_method("deep_pneumonia")
    method.classify = make_loss({"name": "ldam_drw"}, torch.from_numpy(TRAIN.counts()))

    late = []
    for epoch in range(10):
        method.start_epoch(epoch, 10)
        late.append(len(set(method.classify.class_weights.tolist())) > 1)

    assert late == [False] * 8 + [True] * 2  # from 0.8 on


@pytest.mark.parametrize("head_learns", [False, True])
@pytest.mark.parametrize("name", ["deep_pneumonia", "proco", "ecl"])
def test_the_head_learns_of_attention_only_where_that_is_asked_for(name, head_learns):
    care = AttentionSettings(attend=("all",), tau=1.0, head_learns=head_learns)
    method, batch = tiny_method(name, care=care), tiny_batch()
    activations = method.network.activations(batch.images)

    method.with_attention(batch, activations, torch.zeros(()))["loss"].backward()

    learnt = method.network.head[-1].weight.grad
    assert (learnt is not None and bool(learnt.abs().max() > 1e-5)) == head_learns
    assert method.network.features[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "proko"}, "method = 'proko': expected care, deep_pneumonia, proco, ecl"),
        ({"method": "proco", "mixup": {"alpha": 0.2}}, "mixture has neither one class"),
        ({"method": "ecl", "loss": {"name": "focal"}}, "ecl weighs cross-entropy"),
        ({"method": "ecl", "precision": "16-mixed"}, "loss scale changes"),
        ({"method": "proco", "proco": {"prototypes": False}}, "proto-instances are made of"),
        ({"method": "proco", "proco": {"space": "classifier"}}, "proto-instances are made of"),
        ({"method": "proco", "proco": {"space": "image"}}, "expected query, classifier"),
        ({"method": "proco", "proco": {"temperature": 0.0}}, "temperature = 0.0: expected above"),
        ({"method": "proco", "proco": {"rho": 1.5}}, "proco.rho = 1.5: expected 0 to 1"),
        ({"proco": {"queue": 64}}, "[proco] is set, but method = 'care'"),
        ({"pretraining": {"name": "byol"}}, "expected none, moco, simclr"),
        ({"pretraining": {"optimizer": "lamb"}}, "expected adamw, sgd"),
        (
            {"method": "deep_pneumonia", "deep_pneumonia": {"attention_form": "iou"}},
            "expected bce, mse, dice",
        ),
    ],
)
def test_what_makes_no_sense_together_is_refused_in_a_sentence(tmp_path, settings, words):
    run = TrainingRun.load(written(tmp_path, settings))

    with pytest.raises(ConfigError) as caught:
        check(run)

    assert words in str(caught.value)


def written(folder: Path, settings: dict) -> Path:
    from training.run_folder import to_toml

    path = folder / "run.toml"
    path.write_text(to_toml(settings))
    return path


TRAINED_NORM = NetworkSettings(batch_norm="train")


@pytest.mark.parametrize(
    ("name", "changed", "batch", "words"),
    [
        ("proco", {}, 12, "proco.queue = 16: expected a multiple of the batch, 12"),
        ("moco", {}, 32, "pretraining.queue = 16: expected a multiple of the batch, 32"),
        ("ecl", {"devices": 3}, 8, "a batch of 8 pictures cannot be shared by 3"),
        ("ecl", {"network": TRAINED_NORM}, 1, "batch norm of what is compared needs 2"),
        ("moco", {"network": TRAINED_NORM, "devices": 4}, 4, "for 4 process(es): batch norm"),
        (
            "deep_pneumonia",
            {"deep_pneumonia": DeepPneumoniaSettings(lesion_free=("healthy",))},
            8,
            "no label 'healthy'; there are a, b, c, d",
        ),
    ],
)
def test_what_does_not_go_with_the_pictures_is_refused_in_a_sentence(name, changed, batch, words):
    with pytest.raises(ConfigError) as caught:
        (METHODS | PRETRAINING)[name].check_data(tiny_run(name, **changed), TRAIN, batch)

    assert words in str(caught.value)


def test_deep_pneumonia_without_any_box_is_refused_unless_it_needs_none():
    bare = sample_list(*(sample(f"{n}.png", n % 2) for n in range(20)))
    with pytest.raises(ConfigError, match="no picture of the training list has any"):
        METHODS["deep_pneumonia"].check_data(
            TrainingRun(name="x", method="deep_pneumonia"), bare, 8
        )
    off = DeepPneumoniaSettings(attention=0.0, regulation=0.0)
    METHODS["deep_pneumonia"].check_data(
        TrainingRun(name="x", method="deep_pneumonia", deep_pneumonia=off), bare, 8
    )


def test_a_method_brings_its_usual_loss_unless_the_run_names_one(tmp_path):
    for method, loss in (
        ("care", "cross_entropy"),
        ("ecl", "cross_entropy"),
        ("proco", "logit_adjusted"),
        ("deep_pneumonia", "class_balanced"),
    ):
        assert TrainingRun.load(written(tmp_path, {"method": method})).loss.name == loss
        named = written(tmp_path, {"method": method, "loss": {"name": "focal"}})
        assert TrainingRun.load(named).loss.name == "focal"


RUNS = Path(training.__file__).parent / "runs"


@pytest.mark.parametrize("path", sorted(RUNS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_runs_that_come_along_go_together(path):
    check(TrainingRun.load(path))


def test_every_method_has_a_run_that_shows_it():
    shown = {TrainingRun.load(path).method for path in RUNS.glob("*.toml")}

    assert shown == set(METHODS)


@pytest.mark.parametrize("name", SETTINGS)
def test_under_autocast_losses_and_what_is_kept_stay_float32(name):
    method = tiny_method(name)
    with torch.autocast("cpu", torch.bfloat16):
        losses = method(tiny_batch())
    losses["loss"].backward()
    method.after_step()

    exact = {key: value.item() for key, value in tiny_method(name)(tiny_batch()).items()}
    for key, value in losses.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[key], rel=0.1, abs=0.05)
    assert {value.dtype for value in method.own_state().values()} <= {
        torch.float32,
        torch.int64,
        torch.bool,
    }


def test_pretraining_comes_first_and_the_classifier_is_retrained_without_the_method():
    run = TrainingRun(
        name="x",
        method="proco",
        pretraining=PretrainingSettings(name="moco"),
        attention=AttentionSettings(attend=("all",)),
        crt=PretrainingSettings(epochs=1),
    )
    stages = stages_of(run)

    assert [(stage.name, stage.method) for stage in stages] == [
        ("pretrain", "moco"),
        ("stage1", "proco"),
        ("stage2", "proco"),
        ("crt", "care"),
    ]
    assert len({stage.number for stage in stages}) == 4


def test_each_stage_has_its_own_batches():
    labels = [0] * 40 + [1] * 4
    pictures = sample_list(*(sample(f"{n}.png", label) for n, label in enumerate(labels)))
    run = TrainingRun(
        name="x",
        method="care",
        pretraining=PretrainingSettings(name="simclr", batch=16),
        attention=AttentionSettings(attend=("b",)),
        sampler=SamplerSettings(batch=16),
        mixup=MixUpSettings(alpha=0.3),
        crt=StageSettings(epochs=1, size=96),
        stage2=StageSettings(size=128),
    )
    drawn = {
        stage.name: [
            draw
            for epoch in range(20)
            for batch in epoch_of(sampler_of(run, stage, pictures, Processes(), 0), epoch)
            for draw in batch
        ]
        for stage in stages_of(run)
    }

    rare = {name: np.mean([labels[one.sample] for one in each]) for name, each in drawn.items()}
    assert rare["stage1"] == rare["stage2"] == pytest.approx(4 / 44)
    assert rare["crt"] == pytest.approx(0.5, abs=0.06)  # every class equally often
    mixed = {name: any(one.partner is not None for one in each) for name, each in drawn.items()}
    assert mixed == {"pretrain": False, "stage1": True, "stage2": True, "crt": False}
    assert len(drawn["pretrain"]) == 20 * 32  # two views are compared in full batches
    assert len(drawn["stage1"]) == len(drawn["crt"]) - 20 * 4 == 20 * 44
    sizes = {stage.name: preprocessing_of(run, stage).size for stage in stages_of(run)}
    assert sizes == {"pretrain": 224, "stage1": 224, "stage2": 128, "crt": 96}
    attending = {stage.name: stage.care is not None for stage in stages_of(run)}
    assert attending == {"pretrain": False, "stage1": False, "stage2": True, "crt": False}


def epoch_of(batches, epoch: int) -> list:
    batches.epoch = epoch
    return list(batches)


def test_methods_of_two_views_see_whole_batches_only():
    labels = np.zeros(10, int)
    batches = {
        whole: list(Plain(labels, SamplerSettings(batch=4), seed=0, whole=whole))
        for whole in (False, True)
    }

    assert [len(batch) for batch in batches[False]] == [4, 4, 2]
    assert batches[True] == batches[False][:2]
