"""ECL against loops in NumPy float64 and the paper's own numbers."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from tests.training.test_contrastive import units
from training.methods.ecl import BalanceWeighted, bhp_loss, proxies_per_class

ISIC = [1113, 6705, 514, 327, 1099, 115, 142]  # mel, nv, bcc, akiec, bkl, df, vasc


def test_isic_2018_has_the_25_proxies_of_the_paper():
    found = proxies_per_class(torch.tensor(ISIC))

    assert found.tolist() == [2, 1, 3, 4, 2, 7, 6]
    assert found.sum() == 25


def bhp_reference(z: np.ndarray, labels: list[int], temperature: float) -> float:
    losses = []
    for i in range(len(z)):
        below = 0.0
        for a in range(len(z)):
            if a != i:
                members = sum(label == labels[a] for label in labels) - (labels[a] == labels[i])
                below += np.exp(z[i] @ z[a] / temperature) / members
        own = [p for p in range(len(z)) if p != i and labels[p] == labels[i]]
        if own:
            losses.append(
                -np.mean([np.log(np.exp(z[i] @ z[p] / temperature) / below) for p in own])
            )
    return np.mean(losses)


@pytest.mark.parametrize(
    "labels", [[0, 1, 0, 2, 1, 0, 2], [0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0]]
)
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_bhp_equals_its_equation_also_for_a_class_with_a_single_anchor(labels, temperature):
    z = units(7, 4)

    found = bhp_loss(z, torch.tensor(labels), temperature=temperature)

    expected = bhp_reference(z.numpy(), labels, temperature)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_gradients_equal_finite_differences():
    labels = torch.tensor([0, 1, 0, 2, 1, 0])  # class 2 has one anchor
    rows = (2 * units(6, 4)).requires_grad_()

    assert torch.autograd.gradcheck(
        lambda raw: bhp_loss(normalize(raw), labels, temperature=0.3), rows
    )


def test_anchors_without_any_positive_give_zero_not_nan():
    rows = units(3, 4).requires_grad_()

    loss = bhp_loss(rows, torch.arange(3), temperature=0.1)
    loss.backward()

    assert loss.item() == 0
    assert rows.grad.abs().max() == 0


def test_the_weights_follow_nothing_then_counts_then_f1_at_the_epochs_of_the_paper():
    loss = BalanceWeighted(torch.tensor(ISIC))
    inverse = 1 / np.array(ISIC)
    w = inverse / inverse.mean()
    for epoch in (1, 20):
        loss.start(epoch, 100)
        np.testing.assert_allclose(loss.class_weights, np.ones(7))
    for epoch in (21, 35, 50):
        loss.start(epoch, 100)
        np.testing.assert_allclose(loss.class_weights, w ** ((epoch - 20) / 30), rtol=1e-5)
    loss.f1 = torch.tensor([0.8, 0.9, 0.7, 0.6, 0.8, 0.5, 0.75])
    inverse = 1 / np.float64(loss.f1)
    v = inverse / inverse.mean()
    for epoch in (51, 75, 100):
        loss.start(epoch, 100)
        np.testing.assert_allclose(loss.class_weights, v ** ((epoch - 50) / 50), rtol=1e-5)


def test_a_class_that_is_never_found_has_a_finite_weight():
    loss = BalanceWeighted(torch.tensor(ISIC))
    loss.f1 = torch.tensor([0.8, 0.9, 0.7, 0.6, 0.8, 0.0, 0.75])

    loss.start(100, 100)

    assert loss.class_weights.isfinite().all()
    assert loss.class_weights.argmax() == 5
    inverse = 1 / np.array([0.8, 0.9, 0.7, 0.6, 0.8, 0.05, 0.75])
    np.testing.assert_allclose(loss.class_weights, inverse / inverse.mean(), rtol=1e-5)
