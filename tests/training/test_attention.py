"""The attention loss against NumPy float64 and against plain backpropagation."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from tests.training.tiny import (
    CLASSES,
    KINDS,
    SIDE,
    Told,
    backpropagated_maps,
    double_copy,
    make_batch,
    rectangles,
    sample,
    sample_list,
    softmax,
    tiny_network,
    tiny_pictures,
)
from training.attention import attention_maps, attention_terms, coarse_masks, outside_mask
from training.config import AttentionSettings, TrainingRun
from training.data.dataset import Batch
from training.losses import CrossEntropy
from training.methods import Processes, Task
from training.methods.care import Care
from training.network import Network, build_network, freeze_batch_norm

LABELS = [0, 3, 1, 3, 2]
MASKS = {1: rectangles([(2, 3, 9, 11)]), 3: rectangles([(0, 0, 5, 5), (10, 8, 16, 16)])}


def care_losses(
    network: Network,
    batch: Batch,
    care: AttentionSettings | None,
    processes: Processes | None = None,
) -> dict[str, torch.Tensor]:
    """The losses of a step of CARE."""
    train = sample_list(*(sample(f"{n}.png", n) for n in range(CLASSES)))
    classify = CrossEntropy(torch.ones(CLASSES))
    run, size = TrainingRun(name="tiny"), len(batch.labels)
    return Care(network, Task(run, train, classify, size, care, processes or Processes()))(batch)


def stretch(cells: int, size: int) -> np.ndarray:
    """Bilinear weights (size, cells) of pixel centers at half-integers, held at the ends."""
    at = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells)))


def reference_attention(maps: np.ndarray, size: int) -> np.ndarray:
    found = np.zeros((len(maps), size, size))
    for n, signed in enumerate(np.float64(maps)):
        if signed.max() > signed.min():
            scaled = (signed - signed.min()) / (signed.max() - signed.min())
            found[n] = stretch(signed.shape[0], size) @ scaled @ stretch(signed.shape[1], size).T
    return found


def reference_terms(attention, inside, outside, tau) -> tuple[np.ndarray, np.ndarray]:
    l_in, l_out = [], []
    for f, m_in, m_out in zip(*map(np.float64, (attention, inside, outside)), strict=True):
        l_in.append(-min((m_in * f).sum() / m_in.sum(), tau))
        l_out.append((m_out * f).sum() / m_out.sum() if m_out.any() else 0.0)
    return np.array(l_in), np.array(l_out)


def signed_maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7, 7), (4, 6), (1, 3), (16, 16)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_maps_are_scaled_on_their_coarse_grid_and_then_stretched(shape, scale):
    maps = scale * signed_maps(3, *shape) - scale
    masks = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))

    found = (attention_maps(maps) * coarse_masks(masks, *shape)).sum((1, 2))

    stretched = reference_attention(maps.numpy(), 32)
    np.testing.assert_allclose(found, (stretched * masks.numpy()).sum((1, 2)), rtol=2e-6)


@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (4, 6), (1, 3), (32, 32)])
def test_masks_meet_a_map_on_its_grid_as_they_would_its_stretched_copy(shape):
    random = torch.Generator().manual_seed(1)
    maps = torch.rand(2, *shape, generator=random, dtype=torch.float64).requires_grad_()
    masks = torch.rand(2, 32, 32, generator=random)
    stretched = interpolate(maps[:, None], size=(32, 32), mode="bilinear")[:, 0]
    [expected] = torch.autograd.grad((stretched * masks.double()).sum(), maps)

    found = coarse_masks(masks, *shape)

    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.sum((1, 2)), masks.sum((1, 2)))
    assert coarse_masks(masks[:0], *shape).shape == (0, *shape)


def test_the_highest_cell_may_lie_between_pixels_so_the_stretched_peak_is_below_one():
    maps = torch.zeros(1, 4, 4)
    maps[0, 1, 2] = 5.0
    pixels = torch.eye(64).reshape(64, 8, 8)  # one mask for each pixel

    peak = (attention_maps(maps) * coarse_masks(pixels, 4, 4)).sum((1, 2)).max()

    assert peak == pytest.approx((0.75**2), abs=1e-6)  # after stretching it would have been 1


@pytest.mark.parametrize("value", [0.0, -3.0, 1e6])
def test_a_flat_map_is_no_attention_and_has_finite_zero_gradients(value):
    maps = torch.full((2, 4, 4), value)
    maps[1] = signed_maps(4, 4)
    maps.requires_grad_()

    attention = attention_maps(maps)
    attention.square().sum().backward()

    assert (attention[0] == 0).all()
    assert (maps.grad[0] == 0).all()
    assert torch.isfinite(maps.grad).all()
    assert maps.grad[1].abs().max() > 0


@pytest.mark.parametrize("value", [1.0, -300.0, 1e6])
def test_a_map_that_is_flat_but_for_rounding_is_no_attention(value):
    maps = torch.full((1, 4, 4), value)
    maps[0, 1, 2] = torch.nextafter(maps[0, 1, 2], torch.tensor(torch.inf))
    assert maps.max() > maps.min()

    assert (attention_maps(maps) == 0).all()
    maps[0, 1, 2] += 1e-4 * abs(value)
    assert attention_maps(maps)[0, 1, 2] == 1


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("slope", [0.0, 0.05])
def test_both_halves_equal_the_equations_in_float64(tau, slope):
    maps = signed_maps(3, 4, 4)
    masks = [*MASKS.values(), rectangles([(0, 0, SIDE, SIDE)])]
    outside = np.array([outside_mask(mask, slope=slope) for mask in masks])

    found = attention_terms(
        attention_maps(maps),
        coarse_masks(torch.tensor(np.array(masks), dtype=torch.float32), 4, 4),
        coarse_masks(torch.tensor(outside), 4, 4),
        tau=tau,
    )

    l_in, l_out = reference_terms(reference_attention(maps.numpy(), SIDE), masks, outside, tau)
    np.testing.assert_allclose(found.inside, l_in, rtol=2e-6)
    np.testing.assert_allclose(found.outside, l_out, rtol=2e-6, atol=1e-12)
    assert found.outside[2] == 0  # the box fills the picture


def test_inside_a_box_nothing_more_is_learnt_beyond_tau():
    attention = torch.stack([torch.full((8, 8), 0.6), torch.full((8, 8), 0.4)]).requires_grad_()
    inside = torch.tensor(np.array([rectangles([(1, 1, 5, 5)], 8)] * 2), dtype=torch.float32)

    attention_terms(attention, inside, 1 - inside, tau=0.5).inside.sum().backward()

    assert (attention.grad[0] == 0).all()
    torch.testing.assert_close(attention.grad[1], -inside[1] / 16)


def test_the_outer_term_still_pulls_where_the_inner_one_is_content():
    attention = torch.full((1, 8, 8), 0.9, requires_grad=True)
    inside = torch.tensor(rectangles([(1, 1, 5, 5)], 8)[None], dtype=torch.float32)

    sum(attention_terms(attention, inside, 1 - inside, tau=0.5)).sum().backward()

    torch.testing.assert_close(attention.grad, (1 - inside) / 48)


@pytest.mark.parametrize(
    "boxes",
    [[(3, 4, 9, 7)], [(0, 0, 2, 2), (10, 12, 16, 16)], [(1, 1, 8, 8), (5, 5, 12, 9)]],
)
def test_the_outside_mask_grows_with_the_overshoot_to_the_nearest_box(boxes):
    y, x = np.mgrid[:SIDE, :SIDE]
    distances = [
        np.maximum(0, np.maximum(x0 - x, x - (x1 - 1)))
        + np.maximum(0, np.maximum(y0 - y, y - (y1 - 1)))
        for x0, y0, x1, y1 in boxes
    ]
    nearest = np.min(distances, 0)

    found = outside_mask(rectangles(boxes), slope=0.25)

    np.testing.assert_allclose(found, np.where(nearest > 0, 1 + 0.25 * nearest, 0), rtol=1e-6)


def test_the_outside_mask_is_uniform_by_default_and_empty_where_the_box_fills_the_picture():
    np.testing.assert_array_equal(outside_mask(MASKS[1]), 1 - MASKS[1])
    assert not outside_mask(rectangles([(0, 0, SIDE, SIDE)]), slope=1.0).any()


@pytest.mark.parametrize(("alpha", "lam", "tau"), [(0.5, 0.7, 0.5), (0.9, 0.5, 0.2), (0.0, 1, 1)])
def test_the_total_is_that_of_the_paper_averaged_over_the_boxed_pictures(alpha, lam, tau):
    network = tiny_network("linear").eval()
    batch = make_batch(tiny_pictures(), LABELS, MASKS)
    care = AttentionSettings(attend=("all",), alpha=alpha, lam=lam, tau=tau)

    found = care_losses(network, batch, care)

    exact = double_copy(network)
    activations = exact.activations(batch.images).detach().numpy()
    weight = exact.head[0].weight.detach().numpy()
    logits = activations.mean((2, 3)) @ weight.T + exact.head[0].bias.detach().numpy()
    l_c = -np.log(softmax(logits)[np.arange(5), LABELS]).mean()
    boxed = list(MASKS)
    maps = np.einsum("nk,nkhw->nhw", weight[LABELS], activations)[boxed]
    masks = np.array(list(MASKS.values()))
    l_in, l_out = reference_terms(reference_attention(maps, SIDE), masks, 1 - masks, tau)
    assert found["l_c"].item() == pytest.approx(l_c, rel=1e-5)
    assert found["l_in"].item() == pytest.approx(l_in.mean(), rel=1e-5)
    assert found["l_out"].item() == pytest.approx(l_out.mean(), rel=1e-5)
    total = (1 - alpha) * l_c + alpha * (l_in.mean() + lam * l_out.mean())
    assert found["loss"].item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_without_boxes_in_the_batch_there_is_no_attention_loss_and_no_nan(kind):
    network = tiny_network(kind)
    batch = make_batch(tiny_pictures(), LABELS)
    care = AttentionSettings(attend=("all",), alpha=0.25)

    found = care_losses(network, batch, care)
    found["loss"].backward()

    assert found["l_in"].item() == found["l_out"].item() == 0
    assert found["loss"].item() == pytest.approx(0.75 * found["l_c"].item())
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_in_stage_1_only_the_classification_loss_counts():
    batch = make_batch(tiny_pictures(), LABELS, MASKS)

    found = care_losses(tiny_network("linear").eval(), batch, None)

    assert found["loss"] == found["l_c"]
    assert found["l_in"].item() == found["l_out"].item() == 0


def test_two_processes_with_unequal_numbers_of_boxes_have_the_loss_of_one():
    network = tiny_network("linear").eval()
    images = tiny_pictures(6)
    labels = [0, 3, 1, 3, 2, 2]
    masks = {0: MASKS[1], 1: MASKS[3], 2: MASKS[1]}
    care = AttentionSettings(attend=("all",))
    whole = care_losses(network, make_batch(images, labels, masks), care)
    first = make_batch(images[:2], labels[:2], {0: masks[0], 1: masks[1]})
    second = make_batch(images[2:], labels[2:], {0: masks[2]})

    def share(part: Batch) -> dict[str, torch.Tensor]:
        means = iter((3.0, 1.5))  # of the weights, of the boxed pictures
        return care_losses(network, part, care, Told(hears=lambda _: torch.tensor(next(means))))

    one, other = share(first), share(second)

    for name, both in whole.items():
        assert ((one[name] + other[name]) / 2).item() == pytest.approx(both.item(), rel=1e-5)


def reference_gradients(
    network: Network, batch, care: AttentionSettings
) -> dict[str, torch.Tensor]:
    """Gradients of the total in float64: weights by autograd, constants unless the head learns."""
    exact = double_copy(network)
    activations = exact.activations(batch.images)
    logits = exact.classify(activations).logits
    point = activations.detach().requires_grad_()
    score = exact.classify(point).logits[torch.arange(len(batch.labels)), batch.labels].sum()
    [gradient] = torch.autograd.grad(score, point, create_graph=care.head_learns)
    maps = torch.einsum("nk,nkhw->nhw", gradient.mean((2, 3)), activations)[batch.boxed]
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    attention = interpolate(((maps - low) / (high - low))[:, None], size=SIDE, mode="bilinear")[
        :, 0
    ]
    inside, outside = batch.inside.double(), batch.outside.double()
    l_in = -((attention * inside).sum((1, 2)) / inside.sum((1, 2))).clamp(max=care.tau).mean()
    l_out = ((attention * outside).sum((1, 2)) / outside.sum((1, 2))).mean()
    l_c = cross_entropy(logits, batch.labels)
    ((1 - care.alpha) * l_c + care.alpha * (l_in + care.lam * l_out)).backward()
    return {name: value.grad for name, value in exact.named_parameters()}


@pytest.mark.parametrize("head_learns", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_total_equal_those_of_float64_autograd(kind, head_learns):
    network = tiny_network(kind).eval()  # no dropout, running statistics: the loss is a function
    batch = make_batch(tiny_pictures(), LABELS, MASKS)
    care = AttentionSettings(attend=("all",), alpha=0.8, tau=1.0, head_learns=head_learns)

    care_losses(network, batch, care)["loss"].backward()

    expected = reference_gradients(network, batch, care)
    for name, value in network.named_parameters():
        torch.testing.assert_close(
            value.grad.double(), expected[name], rtol=1e-3, atol=2e-6, msg=lambda m, n=name: n + m
        )


def test_letting_the_head_learn_changes_the_gradient_of_a_linear_head_and_of_nothing_else():
    gradients = {}
    for head_learns in (False, True):
        network = tiny_network("linear").eval()
        care = AttentionSettings(attend=("all",), tau=1.0, head_learns=head_learns)
        batch = make_batch(tiny_pictures(), LABELS, MASKS)
        care_losses(network, batch, care)["loss"].backward()
        gradients[head_learns] = {name: p.grad for name, p in network.named_parameters()}

    for name, first_order in gradients[False].items():
        difference = (first_order - gradients[True][name]).abs().max()
        if name == "head.0.weight":
            assert difference > 1e-4
        else:
            assert difference == 0


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_making_maps_touches_no_parameters_gradient(kind, detach):
    network = tiny_network(kind).train()
    labels = torch.tensor(LABELS)
    network.maps(network.activations(tiny_pictures()), labels, detach=detach)
    assert all(value.grad is None for value in network.parameters())

    for value in network.parameters():
        value.grad = torch.full_like(value, 0.25)
    network.maps(network.activations(tiny_pictures()), labels, detach=detach)
    assert all((value.grad == 0.25).all() for value in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_float32_under_autocast(kind):
    network = tiny_network(kind).eval()
    labels = torch.tensor(LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        activations = network.activations(tiny_pictures())
        assert activations.dtype == torch.bfloat16  # the forward pass does run in half
        maps = network.maps(activations, labels)
        attention = attention_maps(maps)

    assert maps.dtype == attention.dtype == torch.float32
    exact = backpropagated_maps(network, activations, labels)
    torch.testing.assert_close(maps.double(), exact, rtol=1e-4, atol=1e-6)


def test_the_attention_loss_is_that_of_float32_under_autocast():
    network = tiny_network("linear").eval()
    batch = make_batch(tiny_pictures(), LABELS, MASKS)
    care = AttentionSettings(attend=("all",), tau=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = care_losses(network, batch, care)
        activations = network.activations(batch.images)

    assert activations.dtype == torch.bfloat16
    exact = backpropagated_maps(network, activations, batch.labels)[list(MASKS)].numpy()
    masks = np.array(list(MASKS.values()))
    l_in, l_out = reference_terms(reference_attention(exact, SIDE), masks, 1 - masks, 1.0)
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert found["l_in"].item() == pytest.approx(l_in.mean(), rel=1e-5)  # bfloat16 has 3 digits
    assert found["l_out"].item() == pytest.approx(l_out.mean(), rel=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "linear"])
def test_while_training_the_map_is_that_of_the_network_at_inference(kind):
    network = tiny_network(kind).train()
    freeze_batch_norm(network.features)
    for parts in (network.tail, network.head):
        parts.train()  # also batch norms, whose statistics a map must neither use nor change
    modes = [part.training for part in network.modules()]
    state = copy.deepcopy(network.state_dict())
    labels = torch.tensor(LABELS)
    activations = network.activations(tiny_pictures())

    maps = network.maps(activations, labels)

    exact = backpropagated_maps(network, activations, labels)
    torch.testing.assert_close(maps.double(), exact, rtol=1e-4, atol=1e-6)
    assert [part.training for part in network.modules()] == modes
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_dropout_in_the_head_of_mobilenet_v3_does_not_enter_the_map():
    torch.manual_seed(0)
    network = build_network("mobilenet_v3_small", 3).train()
    freeze_batch_norm(network)
    labels = torch.tensor([0, 2])
    activations = network.activations(tiny_pictures(2, side=96))
    assert activations.shape[2:] == (3, 3)

    maps = network.maps(activations, labels)

    exact = backpropagated_maps(network, activations, labels)
    torch.testing.assert_close(
        maps.double(), exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max())
    )
    assert network.head[2].training  # the dropout, for the classification loss
