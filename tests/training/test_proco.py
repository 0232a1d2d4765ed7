"""ProCo's loss against loops in NumPy float64, and what it falls back to."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from tests.training.test_contrastive import contrast_reference, units
from training.methods.proco import prior_weights, proto_instances, proto_loss, recalibrated

TEMPERATURE = 0.2
LABELS = torch.tensor([0, 2, 0, 1])
QUEUED = torch.tensor([1, 0, -1, 2, 2, 0, 0])
OTHERS = torch.cat([LABELS, LABELS, QUEUED])
CLASSES = 3


class World:
    """Queries, keys, queue, prototypes: unit rows in float64."""

    def __init__(self, queries: torch.Tensor | None = None) -> None:
        self.q = units(4, 5) if queries is None else queries
        self.keys, self.queue = units(4, 5, seed=1), units(7, 5, seed=2)
        self.p = units(CLASSES, 5, seed=3)
        self.z = torch.cat([self.q, self.keys, self.queue])

    @property
    def similar(self) -> torch.Tensor:
        return self.q @ self.z.T / TEMPERATURE

    @property
    def prototypes(self) -> torch.Tensor:
        return self.q @ self.p.T / TEMPERATURE

    def instances(self, rho: torch.Tensor, epsilon: float, queued=QUEUED) -> torch.Tensor:
        a = proto_instances(self.q, LABELS, self.p, self.queue, queued, rho=rho, epsilon=epsilon)
        return (self.q[:, None] * a).sum(2) / TEMPERATURE


def instances_reference(world: World, rho: np.ndarray, epsilon: float, queued) -> np.ndarray:
    def norm(v):
        return v / np.sqrt(v @ v)

    q, p, k = world.q.numpy(), world.p.numpy(), world.queue.numpy()
    found = np.zeros((4, CLASSES, 5))
    for i in range(4):
        for c in range(CLASSES):
            own = c == LABELS[i]
            members = [j for j in range(len(k)) if queued[j] == c]
            mixed = p[c]
            if members:
                hardest = (min if own else max)(members, key=lambda j: q[i] @ k[j])
                mixed = norm(rho[i, c] * p[c] + (1 - rho[i, c]) * k[hardest])
            found[i, c] = norm(mixed + (-epsilon if own else epsilon) * q[i])
    return found


def loss_reference(world: World, a: np.ndarray | None, r: np.ndarray | None, alpha) -> list[float]:
    """L_pl term by term; a None leaves out proto-instances, r None the prototypes."""
    q, p, z = world.q.numpy(), world.p.numpy(), world.z.numpy()
    losses = []
    for i in range(4):
        y = int(LABELS[i])
        counted = [j for j in range(len(z)) if j != i and OTHERS[j] >= 0]
        d = sum(np.exp(q[i] @ z[j] / TEMPERATURE) for j in counted)
        if r is not None:
            d += sum(r[c] * np.exp(q[i] @ p[c] / TEMPERATURE) for c in range(CLASSES))
        if a is not None:
            d += np.exp(q[i] @ a[i, y] / TEMPERATURE)
            d += sum(np.exp(q[i] @ a[i, c] / TEMPERATURE) for c in range(CLASSES) if c != y)

        def log_pi(v, i=i, d=d):
            return np.log(np.exp(q[i] @ v / TEMPERATURE) / d)

        own = [j for j in counted if OTHERS[j] == y]
        total, weight = alpha * sum(log_pi(z[j]) for j in own), alpha * len(own)
        if r is not None:
            total, weight = total + r[y] * log_pi(p[y]), weight + r[y]
        if a is not None:
            total, weight = total + log_pi(a[i, y]), weight + 1
        losses.append(-total / weight)
    return losses


def shares(low: float = 0.5) -> torch.Tensor:
    random = torch.Generator().manual_seed(4)
    return low + (1 - low) * torch.rand(4, CLASSES, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("queued", [QUEUED, torch.tensor([1, 0, -1, 0, 1, 0, 0])])
def test_proto_instances_equal_their_equations(epsilon, queued):
    world, rho = World(), shares()

    found = proto_instances(world.q, LABELS, world.p, world.queue, queued, rho=rho, epsilon=epsilon)

    expected = instances_reference(world, rho.numpy(), epsilon, queued)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_the_step_is_away_from_the_query_in_its_own_class_and_towards_it_in_others():
    world = World()
    before, after = (world.instances(shares(), epsilon) for epsilon in (0.0, 0.1))

    own = torch.nn.functional.one_hot(LABELS, CLASSES).bool()
    assert (after[own] < before[own]).all()
    assert (after[~own] > before[~own]).all()


@pytest.mark.parametrize("parts", ["both", "prototypes", "instances", "neither"])
@pytest.mark.parametrize("alpha", [0.05, 1.0])
def test_the_proto_loss_equals_its_equation(parts, alpha):
    world, r = World(), torch.tensor([0.5, 0.9, 1.6], dtype=torch.float64)
    a = world.instances(shares(), 0.1) if parts in ("both", "instances") else None
    with_prototypes = parts in ("both", "prototypes")

    found = proto_loss(
        world.similar,
        LABELS,
        OTHERS,
        prototypes=world.prototypes if with_prototypes else None,
        weights=r,
        instances=a,
        alpha=alpha,
    )

    rows = instances_reference(world, shares().numpy(), 0.1, QUEUED) if a is not None else None
    expected = loss_reference(world, rows, r.numpy() if with_prototypes else None, alpha)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_gradients_equal_finite_differences():
    frozen = proto_instances(
        World().q, LABELS, World().p, World().queue, QUEUED, rho=shares(), epsilon=0.1
    )
    r = torch.tensor([0.5, 0.9, 1.6], dtype=torch.float64)

    def of_rows(raw: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
        world = World(normalize(raw))
        return proto_loss(
            world.similar,
            LABELS,
            OTHERS,
            prototypes=world.q @ normalize(prototypes).T / TEMPERATURE,
            weights=r,
            instances=(world.q[:, None] * frozen).sum(2) / TEMPERATURE,
        )

    rows = [(2 * units(n, 5, seed=n)).requires_grad_() for n in (4, 3)]
    assert torch.autograd.gradcheck(of_rows, rows)


def test_no_gradient_passes_through_making_proto_instances():
    q, p = units(4, 5).requires_grad_(), units(3, 5, seed=3).requires_grad_()

    found = proto_instances(q, LABELS, p, units(7, 5), QUEUED, rho=shares(), epsilon=0.1)

    assert not found.requires_grad


@pytest.mark.parametrize("alpha", [0.05, 1.0])
def test_without_prototypes_and_instances_it_is_supervised_contrast_with_a_queue(alpha):
    world = World()

    found = proto_loss(world.similar, LABELS, OTHERS, alpha=alpha)

    expected = contrast_reference(
        world.q.numpy(), LABELS.tolist(), world.z.numpy(), OTHERS.tolist(), TEMPERATURE
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def paco_reference(world: World, logits: np.ndarray, *, alpha, beta, gamma) -> list[float]:
    """PaCo's loss, from the classifier's adjusted logits l_c."""
    q, z = world.q.numpy(), world.z.numpy()
    losses = []
    for i in range(4):
        y = int(LABELS[i])
        counted = [j for j in range(len(z)) if j != i and OTHERS[j] >= 0]
        s = {j: q[i] @ z[j] / TEMPERATURE for j in counted}
        log_z = np.log(np.exp(logits[i]).sum() + gamma * sum(np.exp(v) for v in s.values()))
        own = [j for j in counted if OTHERS[j] == y]
        total = beta * (logits[i, y] - log_z) + alpha * sum(s[j] - log_z for j in own)
        losses.append(-total / (beta + alpha * len(own)))
    return losses


@pytest.mark.parametrize("supt", [1.0, 0.7])
def test_identity_settings_are_paco(supt):
    world = World()
    prior = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    logits = (3 * torch.randn(4, CLASSES, dtype=torch.float64) + prior.log()) / supt

    found = proto_loss(world.similar, LABELS, OTHERS, prototypes=logits, alpha=0.05)

    expected = paco_reference(world, logits.numpy(), alpha=0.05, beta=1, gamma=1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_proto_instances_that_are_their_prototypes_count_these_twice():
    world = World()

    found = proto_loss(
        world.similar,
        LABELS,
        OTHERS,
        prototypes=world.prototypes,
        instances=world.instances(torch.ones(4, CLASSES), 0.0),
    )

    # Twice in the numerator, twice in the sum: PaCo with beta 2 and gamma 1/2, shifted by log 2.
    expected = paco_reference(world, world.prototypes.numpy(), alpha=0.05, beta=2, gamma=0.5)
    np.testing.assert_allclose(found.numpy(), np.array(expected) + np.log(2), rtol=1e-10)


def test_a_class_that_the_queue_does_not_hold_does_no_harm():
    absent = torch.tensor([1, 0, -1, 0, 1, 0, 0])  # no key of class 2
    world = World(units(4, 5).requires_grad_())
    others = torch.cat([LABELS, LABELS, absent])

    loss = proto_loss(
        world.similar,
        LABELS,
        others,
        prototypes=world.prototypes,
        instances=world.instances(shares(), 0.1, absent),
    )
    loss.sum().backward()

    assert loss.isfinite().all()
    assert world.q.grad.isfinite().all()
    empty = torch.full((7,), -1)
    alone = world.instances(shares(), 0.0, empty)
    torch.testing.assert_close(alone, world.prototypes)


def test_recalibration_lifts_rare_and_unsure_classes_within_bounds_and_keeps_the_mean():
    counts = torch.tensor([6705, 1113, 115])
    for form in ("effective", "quarter"):
        weights = recalibrated(prior_weights(counts, form=form))
        assert weights.mean().item() == pytest.approx(1)
        assert (weights.diff() > 0).all()
    quarter = np.array([6705, 1113, 115]) ** -0.25
    np.testing.assert_allclose(
        prior_weights(counts, form="quarter"), quarter / quarter.mean(), rtol=1e-6
    )
    assert prior_weights(counts, form="none").tolist() == [1, 1, 1]

    online = recalibrated(torch.ones(3), torch.tensor([0.9, 0.5, 0.0]))
    np.testing.assert_allclose(online, np.array([0.1, 0.5, 1.0]) / (1.6 / 3), rtol=1e-5)

    sure = recalibrated(torch.ones(3), torch.ones(3))
    assert sure.tolist() == pytest.approx([1, 1, 1])
    extreme = recalibrated(torch.tensor([1e-6, 1.0, 1.0]))
    assert extreme.min() / extreme.max() > 0.05  # clipped at a tenth of the mean

    rare = np.r_[np.ones(39), 400.0, 1e-3]
    share = np.clip(rare / rare.mean(), 0.1, 10)
    np.testing.assert_allclose(recalibrated(torch.tensor(rare)), share / share.mean(), rtol=1e-6)


def test_the_usual_prior_is_the_inverse_effective_number_at_0_999():
    counts = [6705, 1113, 115]
    numbers = np.array([sum(0.999**i for i in range(n)) for n in counts])

    found = prior_weights(torch.tensor(counts), form="effective")

    np.testing.assert_allclose(found, 1 / numbers / (1 / numbers).mean(), rtol=1e-5)
