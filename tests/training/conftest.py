import pytest


@pytest.fixture(autouse=True, scope="module")  # before what modules train for their tests
def tiny_tensors(one_thread) -> None:
    pass
