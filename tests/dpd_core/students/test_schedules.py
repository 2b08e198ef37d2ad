"""Learning rates over a training."""

import pytest

from dpd_core.students.schedules import warmup_cosine


def test_warmup_cosine_rises_linearly_then_falls_to_zero():
    shares = [warmup_cosine(step, warmup=4, steps=24) for step in range(25)]
    assert shares[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert shares[14] == pytest.approx(0.5)
    assert shares[24] == pytest.approx(0.0)
    assert shares[4:] == sorted(shares[4:], reverse=True)


def test_warmup_cosine_without_an_end_stays_at_the_peak():
    assert [warmup_cosine(step, warmup=2) for step in (0, 1, 2, 9999)] == [0.5, 1.0, 1.0, 1.0]
    assert warmup_cosine(0, warmup=0) == 1.0
