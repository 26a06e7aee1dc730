"""Figures of merit against values worked out by hand or by definition."""

from __future__ import annotations

import numpy as np
import pytest

from training.metrics import accuracy, calibration_error, ccc, recalls, wilson


def test_accuracy_and_recalls_of_a_small_table() -> None:
    label, guess = [0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 0, 0]
    assert accuracy(label, guess) == pytest.approx(3 / 6)
    np.testing.assert_allclose(recalls(label, guess, 4), [2 / 3, 1, 0, np.nan], atol=1e-12)


def test_ccc_is_one_for_a_copy_and_zero_for_a_constant() -> None:
    target = np.array([-0.5, 0.0, 0.25, 0.75])
    assert ccc(target, target) == pytest.approx(1)
    assert ccc(target, np.full(4, 0.3)) == pytest.approx(0)


def test_ccc_is_lowered_by_a_shift_that_correlation_does_not_see() -> None:
    target = np.array([-1.0, 0.0, 1.0])
    assert ccc(target, target + 1) == pytest.approx(2 * (2 / 3) / (4 / 3 + 1))


def test_wilson_interval_of_a_known_case() -> None:
    # 8 of 10, 95 %: the textbook value
    assert wilson(0.8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)


def test_wilson_interval_stays_within_zero_and_one() -> None:
    assert wilson(1.0, 5)[1] == pytest.approx(1)
    assert wilson(0.0, 5)[0] == pytest.approx(0)


def test_a_calibrated_guesser_has_no_calibration_error_and_a_boaster_has_all() -> None:
    scores = np.tile(np.array([[0.8, 0.2]], np.float32), (10, 1))
    assert calibration_error(scores, [0] * 8 + [1] * 2) == pytest.approx(0, abs=1e-6)
    sure = np.tile(np.array([[1.0, 0.0]], np.float32), (10, 1))
    assert calibration_error(sure, [1] * 10) == pytest.approx(1)
