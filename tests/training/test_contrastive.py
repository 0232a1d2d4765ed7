"""Contrastive losses against loops in NumPy float64; the queue and the momentum copy."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from training.methods.contrastive import (
    MomentumCopy,
    Projection,
    Queue,
    info_nce,
    nt_xent,
    supervised_contrast,
)


def units(*shape: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=random, dtype=torch.float64), dim=-1)


def contrast_reference(
    queries: np.ndarray, labels: list[int], z: np.ndarray, others: list[int], temperature: float
) -> list[float]:
    """-(1/|P(i)|) sum log(e^s_ij / sum over a of e^s_ia), in loops."""
    losses = []
    for i, q in enumerate(queries):
        counted = [j for j in range(len(z)) if j != i and others[j] >= 0]
        below = sum(np.exp(q @ z[j] / temperature) for j in counted)
        own = [j for j in counted if others[j] == labels[i]]
        terms = [np.log(np.exp(q @ z[j] / temperature) / below) for j in own]
        losses.append(-np.mean(terms) if terms else 0.0)
    return losses


def supervised_contrastive_loss(
    queries: torch.Tensor, candidates: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """SupCon with a queue: L_i = -(1/|P(i)|) sum over j in P(i) of log pi(z_j)."""
    _, total, positives = supervised_contrast(
        queries @ candidates.T / temperature, torch.tensor(LABELS), torch.tensor(OTHERS)
    )
    return -total / positives.clamp(min=1)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_info_nce_equals_its_equation_over_the_filled_entries(temperature):
    queries, keys, queue = units(4, 6), units(4, 6, seed=1), units(5, 6, seed=2)
    filled = torch.tensor([True, True, False, True, False])

    found = info_nce(queries, keys, queue, filled, temperature=temperature)

    for i in range(4):
        own = np.exp(queries[i].numpy() @ keys[i].numpy() / temperature)
        below = own
        for j in (0, 1, 3):
            below += np.exp(queries[i].numpy() @ queue[j].numpy() / temperature)
        assert found[i].item() == pytest.approx(-np.log(own / below), rel=1e-9)


def test_info_nce_with_an_empty_queue_is_zero_and_gives_no_gradient():
    queries = units(3, 4).requires_grad_()
    loss = info_nce(
        queries, units(3, 4, seed=1), units(5, 4), torch.zeros(5, dtype=torch.bool), temperature=0.2
    )
    loss.sum().backward()

    assert loss.abs().max() < 1e-12
    assert queries.grad.abs().max() < 1e-12


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_equals_its_equation(temperature):
    first, second = units(3, 5), units(3, 5, seed=1)

    found = nt_xent(first, second, temperature=temperature)

    z = np.concatenate([first.numpy(), second.numpy()])
    for i in range(6):
        below = sum(np.exp(z[i] @ z[a] / temperature) for a in range(6) if a != i)
        above = np.exp(z[i] @ z[(i + 3) % 6] / temperature)
        assert found[i].item() == pytest.approx(-np.log(above / below), rel=1e-9)


LABELS = [0, 2, 0, 1]
OTHERS = [*LABELS, *LABELS, 1, 0, -1, 2, -1]  # queries, keys, queue


def test_supervised_contrast_with_a_queue_equals_its_equation():
    queries, rest = units(4, 6), units(9, 6, seed=1)
    z = torch.cat([queries, rest])

    found = supervised_contrastive_loss(queries, z, temperature=0.1)

    expected = contrast_reference(queries.numpy(), LABELS, z.numpy(), OTHERS, 0.1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_gradients_equal_finite_differences():
    keys, queue = units(4, 3, seed=1), units(5, 3, seed=2)
    filled = torch.tensor([True, True, False, True, False])

    def of_all(raw: torch.Tensor) -> torch.Tensor:
        q = normalize(raw)
        z = torch.cat([q, keys, queue])
        supervised = supervised_contrastive_loss(q, z, temperature=0.3)
        views = nt_xent(q, normalize(raw.roll(1, 0) + keys), temperature=0.3)
        own = info_nce(q, keys, queue, filled, temperature=0.3)
        return torch.cat([supervised, views, own])

    torch.manual_seed(0)
    assert torch.autograd.gradcheck(of_all, torch.randn(4, 3, dtype=torch.float64).requires_grad_())


def test_what_is_not_filled_has_no_influence():
    queries = units(4, 6)
    one, other = units(9, 6, seed=1), units(9, 6, seed=1)
    other[[6, 8]] = units(2, 6, seed=7)  # the entries labelled -1

    losses = [
        supervised_contrastive_loss(queries, torch.cat([queries, rest]), temperature=0.1)
        for rest in (one, other)
    ]

    torch.testing.assert_close(*losses, rtol=0, atol=0)


def test_the_queue_forgets_the_oldest_first_and_wraps_around():
    queue = Queue(6, 3)
    assert not queue.filled.any()
    batches = [units(4, 3, seed=n).float() for n in range(3)]

    for n, rows in enumerate(batches):
        queue.push(5 * rows, torch.full((4,), n))  # any length: rows become unit rows

    # 0 0 0 0 - -  →  1 1 0 0 1 1  →  1 1 2 2 2 2
    assert queue.labels.tolist() == [1, 1, 2, 2, 2, 2]
    torch.testing.assert_close(queue.rows[2:], batches[2])
    torch.testing.assert_close(queue.rows[:2], batches[1][2:])
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(6))
    assert queue.filled.all()


def test_a_momentum_copy_follows_slowly_and_never_learns():
    torch.manual_seed(0)
    source = nn.Linear(3, 2)
    slow = MomentumCopy(source, momentum=0.9)
    before = slow.copies[0].weight.clone()
    with torch.no_grad():
        source.weight += 1

    slow.follow(source)
    slow.follow(source)

    torch.testing.assert_close(slow.copies[0].weight, before + 1 - 0.9**2)
    assert not any(value.requires_grad for value in slow.parameters())
    assert source.weight.requires_grad


def test_projections_are_unit_rows_in_float32_under_autocast_too():
    head = Projection(8, 8, 4)
    with torch.autocast("cpu", torch.bfloat16):
        rows = head(torch.randn(5, 8))

    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(5))
