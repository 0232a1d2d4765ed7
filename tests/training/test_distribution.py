"""What is unlike the training pictures, against the textbook formula."""

import numpy as np
import pytest

from models.distribution import Distribution
from models.errors import BrokenModel
from training.distribution import fit_distribution


def embeddings(random, pictures: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes in 20 dimensions, ten of them wide and the others narrow."""
    labels = np.arange(pictures) % 3
    means = np.random.default_rng(0).normal(size=(3, 20)) * 3
    spread = np.r_[np.full(10, 2.0), np.full(10, 0.1)]
    return (means[labels] + random.normal(size=(pictures, 20)) * spread).astype(np.float32), labels


def test_distances_are_mahalanobis_distances_to_the_nearest_class(monkeypatch):
    monkeypatch.setattr("training.distribution.DIRECTIONS", 10)
    random = np.random.default_rng(1)
    train, labels = embeddings(random, 3000)
    found = fit_distribution(train, labels, embeddings(random, 600)[0])

    asked = embeddings(random, 50)[0].astype(np.float64)
    means = np.stack([train[labels == n].mean(0, dtype=np.float64) for n in range(3)])
    within = train - means[labels]
    covariance = within.T @ within / len(within)
    values, vectors = np.linalg.eigh(covariance)
    values[:10] = values[:10].mean()  # one variance for all directions but the principal ones
    precision = vectors / values @ vectors.T
    expected = [
        min(np.sqrt((one - mean) @ precision @ (one - mean)) for mean in means) for one in asked
    ]
    np.testing.assert_allclose(found.distance(asked), expected, rtol=1e-3)


def test_most_validation_pictures_are_kept_and_strangers_are_not():
    random = np.random.default_rng(2)
    train, labels = embeddings(random, 900)
    validation = embeddings(random, 400)[0]
    found = fit_distribution(train, labels, validation)
    kept = (found.distance(validation) <= found.threshold).mean()
    assert kept == pytest.approx(0.95, abs=0.01)
    # where no training picture ever went, though no farther than they spread elsewhere
    strangers = embeddings(random, 100)[0] + np.r_[np.zeros(10), np.full(10, 2.0)]
    assert (found.distance(strangers) > found.threshold).all()


def test_the_file_gives_the_same_distances_and_damage_is_noticed(tmp_path):
    import hashlib

    random = np.random.default_rng(3)
    train, labels = embeddings(random, 300)
    made = fit_distribution(train, labels, train)
    content = made.to_bytes()
    path = tmp_path / "distribution.npz"
    path.write_bytes(content)
    read = Distribution.load(path, hashlib.sha256(content).hexdigest())
    np.testing.assert_array_equal(read.distance(train), made.distance(train))
    path.write_bytes(content[:-1])
    with pytest.raises(BrokenModel, match="digest"):
        Distribution.load(path, hashlib.sha256(content).hexdigest())
    with pytest.raises(BrokenModel, match="not the statistics"):
        Distribution.load(path, hashlib.sha256(content[:-1]).hexdigest())
