"""The Grad-CAM formula against loops, for arrays and for tensors."""

import numpy as np
import pytest
import torch

from imaging.gradcam import class_maps, gradcam

KINDS = {"numpy": np.asarray, "torch": torch.tensor}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own", [False, True])
def test_each_class_has_its_weighted_sum_of_the_feature_maps(kind, own):
    random = np.random.default_rng(0)
    activations = random.normal(size=(2, 5, 3, 4))  # more columns than rows
    weights = random.normal(size=(2, 6, 5) if own else (6, 5))
    expected = np.zeros((2, 6, 3, 4))
    for n, c, y, x in np.ndindex(expected.shape):
        for k in range(5):
            weight = weights[n, c, k] if own else weights[c, k]
            expected[n, c, y, x] += weight * activations[n, k, y, x]

    signed, seen = (
        np.asarray(formula(KINDS[kind](activations), KINDS[kind](weights)))
        for formula in (class_maps, gradcam)
    )

    np.testing.assert_allclose(signed, expected, atol=1e-12)
    np.testing.assert_allclose(seen, np.where(expected > 0, expected, 0), atol=1e-12)
    assert (expected < 0).any()
