"""Every loss against NumPy float64 and against the worked numbers of the papers' counts."""

import numpy as np
import pytest
import torch

from tests.training.tiny import Told, make_batch, softmax, tiny_pictures
from training.losses import LOSSES, CrossEntropy, effective_number_weights, make_loss
from training.methods.method import Processes, classification_loss

# ISIC 2018 task 3: MEL, NV, BCC, AKIEC, BKL, DF, VASC
ISIC = [1113, 6705, 514, 327, 1099, 115, 142]
N = np.array(ISIC, float)


def logits_and_labels(scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 6, 5, 1])
    return scale * torch.randn(9, 7, generator=random), labels


def true_class(logits: np.ndarray, labels: torch.Tensor) -> np.ndarray:
    return softmax(np.float64(logits))[np.arange(len(labels)), labels]


def effective(beta: float) -> np.ndarray:
    """Inverse effective numbers summing to the number of classes, by the geometric series."""
    terms = np.array([sum(beta**i for i in range(int(n))) for n in N])
    return 7 / terms / (1 / terms).sum()


def one_hot(labels: torch.Tensor) -> np.ndarray:
    return np.eye(7)[labels]


# per picture, and its weight: name, options, logits and labels → (N,), class weights
REFERENCES = [
    ("cross_entropy", {}, lambda z, y: -np.log(true_class(z, y)), np.ones(7)),
    ("cost_sensitive", {}, lambda z, y: -np.log(true_class(z, y)), 1 / N),
    (
        "focal",
        {},
        lambda z, y: -((1 - true_class(z, y)) ** 2) * np.log(true_class(z, y)),
        np.ones(7),
    ),
    (
        "focal",
        {"gamma": 0.5},
        lambda z, y: -((1 - true_class(z, y)) ** 0.5) * np.log(true_class(z, y)),
        np.ones(7),
    ),
    ("class_balanced", {}, lambda z, y: -np.log(true_class(z, y)), effective(0.9999)),
    ("class_balanced", {"beta": 0.99}, lambda z, y: -np.log(true_class(z, y)), effective(0.99)),
    (
        "ldam_drw",
        {},
        lambda z, y: -np.log(true_class(z - one_hot(y) * 30 * 0.5 * (N / N.min()) ** -0.25, y)),
        np.ones(7),
    ),
    (
        "ldam_drw",
        {"margin": 0.2},
        lambda z, y: -np.log(true_class(z - one_hot(y) * 30 * 0.2 * (N / N.min()) ** -0.25, y)),
        np.ones(7),
    ),
    (
        "logit_adjusted",
        {},
        # balanced softmax: n_y exp z_y / sum over c of n_c exp z_c
        lambda z, y: -np.log((N * np.exp(z))[range(9), y] / (N * np.exp(z)).sum(1)),
        np.ones(7),
    ),
    (
        "logit_adjusted",
        {"tau": 2.0},
        lambda z, y: -np.log(true_class(z + 2 * np.log(N / N.sum()), y)),
        np.ones(7),
    ),
]


@pytest.mark.parametrize(("name", "options", "reference", "weights"), REFERENCES)
def test_each_loss_equals_its_formula_in_float64(name, options, reference, weights):
    loss = make_loss({"name": name, **options, "unset": None}, torch.tensor(ISIC))
    logits, labels = logits_and_labels()

    found = loss(logits, labels)

    np.testing.assert_allclose(found, reference(np.float64(logits), labels), rtol=2e-4, atol=1e-6)
    expected = weights[labels] / weights.mean()
    np.testing.assert_allclose(loss.weights(labels), expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "options", "reference", "weights"), REFERENCES)
def test_gradients_equal_finite_differences(name, options, reference, weights):
    loss = make_loss({"name": name, **options}, torch.tensor(ISIC))
    logits, labels = logits_and_labels(1.0)
    logits.requires_grad_()

    loss(logits, labels).sum().backward()

    exact, step = np.float64(logits.detach()), 1e-5
    for c in range(7):
        nudge = step * np.eye(7)[c]
        slope = (reference(exact + nudge, labels) - reference(exact - nudge, labels)) / (2 * step)
        np.testing.assert_allclose(logits.grad[:, c], slope, rtol=1e-3, atol=1e-5)


def test_every_loss_has_a_reference():
    assert {name for name, *_ in REFERENCES} == set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("gap", [40.0, -40.0, 1000.0, -1000.0])
def test_extreme_logits_give_finite_losses_and_gradients(name, gap):
    options = {"gamma": 0.5} if name == "focal" else {}
    loss = make_loss({"name": name, **options}, torch.tensor([50, 5]))
    logits = torch.tensor([[gap, 0.0]], requires_grad=True)

    value = loss(logits, torch.tensor([0]))
    value.sum().backward()

    assert torch.isfinite(value).all()
    assert torch.isfinite(logits.grad).all()


def test_logits_of_half_precision_are_compared_in_float32():
    logits, labels = logits_and_labels()
    for name in LOSSES:
        loss = make_loss({"name": name}, torch.tensor(ISIC))
        half = logits.bfloat16()
        torch.testing.assert_close(loss(half, labels), loss(half.float(), labels), rtol=0, atol=0)


def test_cost_sensitive_weights_are_those_worked_out_for_isic_2018():
    weights = make_loss({"name": "cost_sensitive"}, torch.tensor(ISIC)).class_weights

    published = [0.0396, 0.0066, 0.0857, 0.1347, 0.0401, 0.3831, 0.3102]
    np.testing.assert_allclose(weights / weights.sum(), published, atol=5e-5)
    by_median = [0.462, 0.077, 1, 1.572, 0.468, 4.470, 3.620]
    np.testing.assert_allclose(weights / weights[2], by_median, atol=5e-4)


@pytest.mark.parametrize(
    ("beta", "worked"),
    [
        (0.9, [1.0] * 7),
        (0.99, [0.895, 0.895, 0.900, 0.930, 0.895, 1.306, 1.178]),
        (0.999, [0.389, 0.261, 0.649, 0.936, 0.391, 2.402, 1.971]),
        (0.9999, [0.288, 0.062, 0.606, 0.944, 0.292, 2.655, 2.153]),
    ],
)
def test_effective_number_weights_are_those_worked_out_for_isic_2018(beta, worked):
    weights = effective_number_weights(torch.tensor(ISIC), beta)

    np.testing.assert_allclose(weights, worked, atol=6e-4)
    np.testing.assert_allclose(weights, effective(beta), rtol=1e-5)
    assert weights.sum().item() == pytest.approx(7)


def test_a_beta_of_0_weighs_all_classes_alike():
    found = LOSSES["class_balanced"](torch.tensor(N), beta=0.0).class_weights

    np.testing.assert_array_equal(found, np.ones(len(N)))


def test_beta_follows_the_size_of_the_largest_class():
    for largest, beta in ((4999, 0.999), (5000, 0.9999)):
        counts = torch.tensor([largest, 100])
        found = make_loss({"name": "class_balanced"}, counts).class_weights
        torch.testing.assert_close(found, effective_number_weights(counts, beta))


def test_ldam_margins_are_those_worked_out_for_isic_2018():
    margins = make_loss({"name": "ldam_drw"}, torch.tensor(ISIC)).margins

    worked = [0.283, 0.181, 0.344, 0.385, 0.284, 0.5, 0.474]
    np.testing.assert_allclose(margins, worked, atol=6e-4)


def test_ldam_weighs_all_alike_until_the_deferred_share_of_the_stage_is_over():
    loss = make_loss({"name": "ldam_drw"}, torch.tensor(ISIC))
    for epoch in range(200):
        loss.start_epoch(epoch / 200)
        expected = np.ones(7) if epoch < 160 else effective(0.9999)
        np.testing.assert_allclose(loss.class_weights, expected, rtol=1e-5)
    loss.start_epoch(0.0)  # a second stage starts afresh
    assert (loss.class_weights == 1).all()


@pytest.mark.parametrize(("name", "option"), [("focal", "gamma"), ("logit_adjusted", "tau")])
def test_an_option_of_zero_is_zero_and_not_the_usual_one(name, option):
    logits, labels = logits_and_labels()

    found = make_loss({"name": name, option: 0.0}, torch.tensor(ISIC))(logits, labels)

    np.testing.assert_allclose(found, -np.log(true_class(logits.numpy(), labels)), rtol=1e-5)


def test_ldam_deferred_by_nothing_weighs_from_the_beginning():
    loss = make_loss({"name": "ldam_drw", "deferred": 0.0}, torch.tensor(ISIC))

    loss.start_epoch(0.0)

    np.testing.assert_allclose(loss.class_weights, effective(0.9999), rtol=1e-5)


def test_only_ldam_asks_for_a_cosine_classifier():
    assert {name for name, loss in LOSSES.items() if loss.cosine} == {"ldam_drw"}


def mixed_batch(rows: slice = slice(None)):
    labels, partners = [0, 5, 6, 1, 3, 2], [1, 1, 6, 5, 0, 4]
    shares = [1.0, 0.9, 0.75, 0.5, 0.6, 0.55]
    return make_batch(
        tiny_pictures(6)[rows], labels[rows], partners=partners[rows], shares=shares[rows]
    )


@pytest.mark.parametrize("name", LOSSES)
def test_of_mixtures_both_classes_count_by_their_shares(name):
    loss = make_loss({"name": name}, torch.tensor(ISIC))
    loss.start_epoch(0.9)
    batch = mixed_batch()
    logits = logits_and_labels()[0][:6]

    found = classification_loss(loss, logits, batch, Processes())

    weights = np.float64(loss.class_weights)
    above = below = 0.0
    for n in range(6):
        for label, share in (
            (batch.labels[n], batch.shares[n].item()),
            (batch.partners[n], 1 - batch.shares[n].item()),
        ):
            weight = share * weights[label]
            above += weight * loss(logits[n : n + 1], label[None]).item()
            below += weight
    assert found.item() == pytest.approx(above / below, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("cut", [3, 1])
def test_the_losses_of_two_processes_average_to_that_of_the_whole_batch(name, cut):
    loss = make_loss({"name": name}, torch.tensor(ISIC))
    loss.start_epoch(0.9)
    logits = logits_and_labels()[0][:6]
    halves = [slice(0, cut), slice(cut, 6)]
    gradients = []

    def run(rows, processes):
        part = logits[rows].clone().requires_grad_()
        value = classification_loss(loss, part, mixed_batch(rows), processes)
        value.backward()
        gradients.append(part.grad)
        return value.item()

    own = []
    for rows in halves:  # what each process would send to the others
        sent = Told(hears=lambda weight: own.append(weight) or weight)
        classification_loss(loss, logits[rows], mixed_batch(rows), sent)
    mean = sum(own) / 2
    parts = [run(rows, Told(hears=lambda _: mean)) for rows in halves]
    whole = run(slice(0, 6), Processes())

    assert np.mean(parts) == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(torch.cat(gradients[:2]) / 2, gradients[2], rtol=1e-4, atol=1e-7)


def test_the_plain_mean_is_that_of_pytorch():
    logits, labels = logits_and_labels()
    batch = make_batch(tiny_pictures(9), labels.tolist())
    for name in ("cross_entropy", "cost_sensitive"):
        loss: CrossEntropy = make_loss({"name": name}, torch.tensor(ISIC))
        expected = torch.nn.functional.cross_entropy(logits, labels, weight=loss.class_weights)
        torch.testing.assert_close(classification_loss(loss, logits, batch, Processes()), expected)
