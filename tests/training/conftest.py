from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")  # before what modules train for their tests
def one_thread() -> Iterator[None]:
    """Tiny tensors are slower on many threads, and sums depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
