"""Pictures of concurrent requests share a run; each gets its own result, or its own error."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.classifier import Outputs
from models.store import load_one
from service.batcher import Batcher
from tests.models_factory import square_model

BAD = 7


def values(squares: np.ndarray) -> Outputs:
    """A model that answers with the first pixel of each picture, and breaks on some."""
    first = squares[:, 0, 0, 0].astype(np.float32)
    if (first == BAD).any():
        raise RuntimeError("a bad picture")
    return Outputs(first[:, None], first[:, None, None, None], first[:, None])


def ask_all(batcher: Batcher, squares: list[np.ndarray]) -> list[Outputs | Exception]:
    together = threading.Barrier(len(squares))

    def ask(square: np.ndarray) -> Outputs | Exception:
        together.wait()
        try:
            return batcher(square)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(squares)) as pool:
        return list(pool.map(ask, squares, timeout=240))


def numbered(count: int) -> list[np.ndarray]:
    return [np.full((4, 4, 3), number, np.uint8) for number in range(count)]


@pytest.mark.parametrize("most", [1, 3, 16])
def test_each_gets_its_own_result(most):
    sizes: list[int] = []
    squares = [square for square in numbered(40) if square[0, 0, 0] != BAD]

    results = ask_all(Batcher(values, most=most, wait_ms=50, note=sizes.append), squares)

    assert [result.logits.item() for result in results] == [square[0, 0, 0] for square in squares]
    assert all(result.cams.shape == (1, 1, 1, 1) for result in results)
    assert sum(sizes) == len(squares)
    assert max(sizes) <= most


def test_concurrent_requests_share_a_run():
    sizes: list[int] = []

    ask_all(Batcher(values, most=4, wait_ms=300_000, note=sizes.append), numbered(4))

    assert sizes == [4]  # and at once: a full run waits for nobody


def test_one_bad_picture_of_sixteen_costs_exactly_one():
    results = ask_all(Batcher(values, most=16, wait_ms=500), numbered(16))

    assert [isinstance(result, Exception) for result in results] == [
        number == BAD for number in range(16)
    ]


def test_a_picture_of_another_shape_costs_exactly_one():
    odd = np.zeros((5, 5, 3), np.uint8)
    batcher = Batcher(lambda squares: values(squares[:, :4, :4]), most=4, wait_ms=500)

    results = ask_all(batcher, [*numbered(3), odd])

    assert [result.logits.item() for result in results] == [0, 1, 2, 0]


def test_who_comes_alone_does_not_wait_for_ever():
    [found] = ask_all(Batcher(values, most=16, wait_ms=60), numbered(1))

    assert found.logits.item() == 0


def test_a_model_answers_the_same_alone_and_in_company(tmp_path):
    square_model(tmp_path, "square")
    classifier = load_one(tmp_path, "square")
    squares = list(np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), np.uint8))

    together = ask_all(Batcher(classifier.run, most=8, wait_ms=500), squares)

    for square, found in zip(squares, together, strict=True):
        for ours, alone in zip(found, classifier.run(square[None]), strict=True):
            np.testing.assert_allclose(ours, alone, atol=1e-6)


def test_batches_are_off_on_a_cpu_and_on_elsewhere():
    from service.settings import Settings

    assert Settings().batch == 1
    assert Settings(provider="cuda").batch == 16
