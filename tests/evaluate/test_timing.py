"""When it was spoken: figures of streams small enough to count, and what holds of any."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmworld.evaluate.timing import Timing, answered, timing
from mmworld.types import Caption


def told(*ends: float, text: str = "a red dog") -> list[Caption]:
    return [Caption(text, a, b) for a, b in zip((0.0, *ends), ends, strict=False)]


times = st.lists(st.integers(1, 60).map(lambda n: n / 2), max_size=6, unique=True).map(sorted)


@given(times.filter(bool))
def test_the_truth_is_right(ends: list[float]) -> None:
    truth = told(*ends)
    whole = timing(truth, truth)
    assert whole == Timing(1.0, 1.0, 0.0, pytest.approx(max(1 - len(ends) / round(2 * ends[-1]), 0)), 1.0)


@given(times, times, st.sampled_from([0.5, 1.0, 2.0]))
def test_as_many_are_answered_as_can_be(said: list[float], true: list[float], tolerance: float) -> None:
    found = answered(told(*said), told(*true), tolerance)
    assert len(set(found.values())) == len(found)
    assert all(abs(said[i] - true[j]) <= tolerance for j, i in found.items())
    few, many = sorted((said[:4], true[:4]), key=len)
    best = max(
        n
        for n in range(len(few) + 1)
        for some in combinations(few, n)
        for others in permutations(many, n)
        if all(abs(a - b) <= tolerance for a, b in zip(some, others, strict=True))
    )
    assert len(answered(told(*said[:4]), told(*true[:4]), tolerance)) == best


@given(times.filter(bool), times)
def test_saying_nothing_or_all_the_time(true: list[float], said: list[float]) -> None:
    nothing = timing([], told(*true))
    assert (nothing.precision, nothing.recall, nothing.silence) == (0.0, 0.0, 1.0)
    always = timing(told(*(n / 2 for n in range(1, 61))), told(*true), tolerance=0.25)
    assert (always.recall, always.time_difference) == (1.0, 0.0)
    assert always.precision == pytest.approx(len(true) / 60)
    assert always.silence <= 1 / 60 + 1e-9
    assert timing(told(*said), told(*true)).time_difference <= nothing.time_difference


def test_figures_counted_by_hand() -> None:
    """Events at 4 and 10 s; said at 3.5 (in time), 7 (too early for the second) and 13 (too late)."""
    got = timing(told(3.5, 7.0, 13.0), told(4.0, 10.0))
    assert (got.precision, got.recall) == (pytest.approx(1 / 3), 0.5)
    assert got.time_difference == pytest.approx((0.5 + 3.0) / 2)
    assert got.silence == pytest.approx(1 - 3 / 26)
    # first turn: 8 steps and 3 words, all right; second: 12 steps and 3 words, silent for 6 of them and then wrong
    assert got.fluency == pytest.approx((1.0 + 6 / 15) / 2)


@pytest.mark.parametrize(("text", "right"), [("a red dog", 7), ("a red", 6), ("a blue dog", 5), ("no", 4)])
def test_words_count_up_to_the_first_wrong_one(text: str, right: int) -> None:
    assert timing(told(2.0, text=text), told(2.0)).fluency == pytest.approx(right / 7)


def test_late_or_never_is_one_step_wrong_and_no_words() -> None:
    truth = told(2.0, 10.0)
    assert timing(told(10.0), truth).fluency == pytest.approx((3 / 7 + 1.0) / 2)
    assert timing(told(10.0), truth).time_difference == pytest.approx(2.0 / 2)


def test_of_nothing_nothing_can_be_measured() -> None:
    with pytest.raises(ValueError, match="no events"):
        timing(told(1.0), [])
