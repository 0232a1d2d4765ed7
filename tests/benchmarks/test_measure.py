"""Alternatives take turns, and what came out is said with its target."""

import pytest

from benchmarks.measure import Ratio, growth, ratio, ratio_table, table, timed_rounds


def test_alternatives_take_turns_at_beginning_and_the_first_round_is_left_out():
    called = []
    times = timed_rounds({name: lambda name=name: called.append(name) for name in "abc"}, rounds=2)

    assert called == list("bca" + "cab" + "abc")
    assert {name: len(taken) for name, taken in times.items()} == dict.fromkeys("abc", 2)


def test_a_ratio_is_the_median_of_ratios_of_the_same_round():
    times = {"one": [2.0, 30.0, 8.0], "other": [1.0, 10.0, 2.0]}

    assert ratio(times, "one", "other") == 3


@pytest.mark.parametrize(
    ("limits", "target"),
    [
        ({}, "none"),
        ({"at_least": 5}, "at least 5: met"),
        ({"at_least": 6.13}, "at least 6.13: **missed**"),
        ({"at_most": 6.12}, "at most 6.12: met"),
        ({"at_most": 1.05}, "at most 1.05: **missed**"),
    ],
)
def test_a_ratio_says_whether_its_target_is_met(limits: dict[str, float], target: str):
    assert Ratio("film", "NumPy", 6.12, "as fast", **limits).target == target


def test_a_ratio_near_its_limit_is_said_with_the_digits_that_decide():
    near = Ratio("maps", "logits", 1.0512, "the cost", at_most=1.05)

    assert near.measured == "1.051 times the cost"
    assert Ratio("film", "NumPy", 6.12, "as fast").measured == "6.12 times as fast"


def test_ratios_are_a_table_of_four_full_columns():
    assert ratio_table([Ratio("film", "NumPy", 2.0, "as fast")]).splitlines() == [
        "| what | against | measured | target |",
        "|---|---|---|---|",
        "| film | NumPy | 2.00 times as fast | none |",
    ]


def test_growth_sets_each_alternative_against_ours():
    medians = {2: {"theirs": 6.0, "ours": 2.0}, 100: {"theirs": 50.0, "ours": 2.5}}

    assert growth("classes", medians, "ours") == table(
        ["classes", "theirs, ms", "ours, ms", "theirs / ours"],
        [[2, "6.0", "2.0", "3.0"], [100, "50.0", "2.5", "20.0"]],
    )
