"""How many cores there are for us."""

import os

import pytest

from imaging.cores import available_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds to no cores")
def test_only_cores_that_this_process_may_use_count():
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usual)})
    try:
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, usual)
    assert available_cores() == len(usual)


def test_where_a_system_binds_to_no_cores_all_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores() == 6

    monkeypatch.setattr(os, "cpu_count", lambda: None)  # not known
    assert available_cores() == 1
