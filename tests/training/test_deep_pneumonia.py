"""Deep Pneumonia's parts against loops in NumPy float64."""

import numpy as np
import pytest
import torch

from tests.training.test_contrastive import units
from tests.training.tiny import rectangles, tiny_pictures
from training.methods.deep_pneumonia import (
    hard_attention_loss,
    hard_mask,
    lesion_only_and_erased,
    regulation,
    stage_ends,
)
from training.network import SpatialGate


def test_the_gate_equals_its_equation():
    torch.manual_seed(0)
    gate = SpatialGate().double()
    maps = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    weight, bias = gate.conv.weight[0].detach().numpy(), gate.conv.bias.item()

    found = gate(maps).detach().numpy()

    a = maps.numpy()
    for n in range(2):
        planes = np.pad(np.stack([a[n].mean(0), a[n].max(0)]), ((0, 0), (3, 3), (3, 3)))
        for u in range(4):
            for v in range(3):
                logit = (weight * planes[:, u : u + 7, v : v + 7]).sum() + bias
                np.testing.assert_allclose(found[n, :, u, v], a[n, :, u, v] / (1 + np.exp(-logit)))


def test_a_cell_is_marked_where_any_of_its_pixels_is():
    inside = torch.from_numpy(rectangles([(3, 0, 5, 4), (15, 15, 16, 16)])).float()[None]

    found = hard_mask(inside, (4, 4))

    assert found[0].tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("form", ["bce", "mse", "dice"])
def test_hard_attention_equals_its_equation_and_its_gradient_finite_differences(form):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 4, generator=random, dtype=torch.float64)
    mask = (torch.rand(3, 2, 4, generator=random) > 0.5).double()
    mask[2] = 0  # known to hold no lesion

    found = hard_attention_loss(logits, mask, form=form).numpy()

    for n in range(3):
        total = cross = gates = marks = 0.0
        for z, m in zip(logits[n].flatten().tolist(), mask[n].flatten().tolist(), strict=True):
            a = 1 / (1 + np.exp(-z))
            total += -np.log(a if m else 1 - a) if form == "bce" else (a - m) ** 2
            cross, gates, marks = cross + a * m, gates + a, marks + m
        expected = 1 - (2 * cross + 1) / (gates + marks + 1) if form == "dice" else total / 8
        assert found[n] == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(
        lambda z: hard_attention_loss(z, mask, form=form), logits.requires_grad_()
    )


def test_the_lesion_alone_and_the_rest_alone_keep_the_mean_color_elsewhere():
    images = tiny_pictures(2)
    inside = torch.from_numpy(
        np.stack([rectangles([(2, 3, 9, 11)]), rectangles([(0, 0, 4, 4), (8, 8, 16, 16)])])
    ).float()

    lesion, erased = lesion_only_and_erased(images, inside)

    for n in range(2):
        picture = np.float64(images[n])
        mean = picture.mean((0, 1))
        for u in range(16):
            for v in range(16):
                marked = bool(inside[n, u, v])
                one, other = (picture[u, v], mean) if marked else (mean, picture[u, v])
                np.testing.assert_allclose(lesion[n, u, v], one, rtol=1e-5)
                np.testing.assert_allclose(erased[n, u, v], other, rtol=1e-5)


@pytest.mark.parametrize("form", ["ratio", "infonce"])
def test_regulation_equals_its_equation_and_its_gradient_finite_differences(form):
    whole, lesion, erased = (2 * units(3, 5, seed=n) for n in range(3))

    found = regulation(whole, lesion, erased, form=form, temperature=0.4).numpy()

    for n in range(3):
        v, near, far = (rows[n].numpy() for rows in (whole, lesion, erased))
        if form == "ratio":
            expected = np.abs(v - near).sum() / (np.abs(v - far).sum() + 1e-7)
        else:
            one, other = (
                np.exp(v @ w / np.sqrt(v @ v) / np.sqrt(w @ w) / 0.4) for w in (near, far)
            )
            expected = -np.log(one / (one + other))
        assert found[n] == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(
        lambda v: regulation(v, lesion, erased, form=form), whole.requires_grad_()
    )


def test_where_erasing_the_lesion_changes_nothing_the_ratio_stays_bounded_and_pulls_no_more():
    whole = units(2, 5).requires_grad_()

    loss = regulation(whole, units(2, 5, seed=1), whole.detach().clone())
    loss.sum().backward()

    assert loss.tolist() == [10, 10]
    assert whole.grad.abs().max() == 0


def test_references_are_constants():
    whole, lesion, erased = (units(2, 5, seed=n).requires_grad_() for n in range(3))

    regulation(whole, lesion, erased).sum().backward()

    assert whole.grad is not None
    assert lesion.grad is None
    assert erased.grad is None


def test_stages_are_the_last_layers_of_the_four_coarsest_resolutions():
    # a ResNet's children at 224 pixels: conv, norm, relu, pool, four stages, the gate
    assert stage_ends([112, 112, 112, 56, 56, 28, 14, 7, 7]) == [4, 5, 6, 8]
    assert stage_ends([8, 8, 4]) == [1, 2]
