"""How far a picture lies from the pictures a model was trained on."""

import hashlib
import io
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np

from models.errors import BrokenModel

UNLIKE = "unlike the training pictures"
"""What people are told of a picture beyond the threshold, in these words everywhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """Class-conditional Mahalanobis distance of the embedding (Lee et al. 2018).

    All classes share one covariance: R principal directions with their own variances, and one
    variance for all the others. So the file is small, and what no training picture ever showed
    counts most.

    Arrays are float32 in the file, float64 once they are loaded.

    Attributes:
        center: Mean of the training embeddings, (K,).
        basis: Principal directions of the within-class covariance, orthonormal, (K, R).
        variances: Variance along each, (R,).
        rest: Variance along any other direction, ().
        means: Class means, relative to `center`, (C, K).
        threshold: Distance that 95 % of the validation pictures do not exceed, ().
    """

    center: np.ndarray
    basis: np.ndarray
    variances: np.ndarray
    rest: np.ndarray
    means: np.ndarray
    threshold: np.ndarray

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        """Distance to the nearest class mean, float64 (N,).

        Args:
            embeddings: (N, K) or longer: what comes behind the first K entries does not count.
        """
        known = embeddings[:, None, : len(self.center)].astype(np.float64)
        apart = known - self.center - self.means  # (N, C, K)
        along = apart @ self.basis
        beside = (apart**2).sum(2) - (along**2).sum(2)
        squared = (along**2 / self.variances).sum(2) + beside.clip(0) / float(self.rest)
        return np.sqrt(squared.min(1))

    def to_bytes(self) -> bytes:
        """As an .npz file."""
        file = io.BytesIO()
        np.savez(file, **{item.name: getattr(self, item.name) for item in fields(self)})
        return file.getvalue()

    @classmethod
    def load(cls, path: Path, sha256: str) -> Self:
        """Read the file beside a card.

        Raises:
            BrokenModel: It is missing, is not the one the card means, or is no such file.
        """
        name = f"{path.parent.name}/{path.name}"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BrokenModel(f"{name}: cannot be read") from error
        if (digest := hashlib.sha256(content).hexdigest()) != sha256:
            raise BrokenModel(f"{name} has digest {digest}, the card says {sha256}")
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                # once, not with every picture: distances are float64
                return cls(**{name: arrays[name].astype(np.float64) for name in arrays})
        except (ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
            raise BrokenModel(f"{name}: not the statistics of a model's embedding") from error
