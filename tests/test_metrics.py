"""Figures of merit against values worked out by hand or by definition."""

from __future__ import annotations

import doctest
import math
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training import metrics
from training.metrics import (
    McNemar,
    Spread,
    accuracy,
    bootstrap,
    calibration_error,
    ccc,
    folds_by_subject,
    mcnemar,
    recalls,
    spread,
    uar,
    weighted_accuracy,
    wilson,
)
from training.paper import TABLE1


def test_accuracy_and_recalls_of_a_small_table() -> None:
    label, guess = [0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 0, 0]
    assert accuracy(label, guess) == pytest.approx(3 / 6)
    np.testing.assert_allclose(recalls(label, guess, 4), [2 / 3, 1, 0, np.nan], atol=1e-12)


def test_uar_is_the_mean_recall_of_the_classes_that_occur() -> None:
    label, guess = [0, 0, 0, 1, 3, 3], [0, 0, 2, 1, -1, -1]
    assert uar(label, guess) == pytest.approx(np.nanmean(recalls(label, guess, 5)))
    assert uar(label, guess) == pytest.approx((2 / 3 + 1 + 0) / 3)


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


def test_examples_in_docstrings_run() -> None:
    result = doctest.testmod(metrics)
    assert result.attempted > 0
    assert result.failed == 0


def test_metrics_and_the_papers_tables_need_no_extra() -> None:
    code = (
        "import sys, training.metrics, training.paper;"
        "print([m for m in ('torch', 'scipy', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    root = Path(__file__).parents[1]
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


# --- weighted accuracy


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 500)), min_size=1, max_size=9))
def test_weighted_accuracy_is_the_papers_formula(rows: list[tuple[float, int]]) -> None:
    total = sum(n for _, n in rows)
    slow = sum(a * n / total for a, n in rows)
    assert weighted_accuracy(*zip(*rows, strict=True)) == pytest.approx(slow, abs=1e-12)


def test_weighted_by_its_own_counts_it_is_the_accuracy() -> None:
    rng = np.random.default_rng(0)
    label, guess = rng.integers(0, 7, 500), rng.integers(0, 7, 500)
    counts = np.bincount(label, minlength=7)
    assert weighted_accuracy(recalls(label, guess, 7), counts) == pytest.approx(
        accuracy(label, guess)
    )


def test_table_1_weights_a_model_that_only_knows_neutral() -> None:
    assert weighted_accuracy([0, 0, 0, 0, 0, 1, 0], TABLE1["test"]) == pytest.approx(191 / 653)


def test_a_class_without_examples_leaves_both_sums() -> None:
    assert weighted_accuracy([0.5, np.nan, 1.0], [2, 90, 2]) == pytest.approx(0.75)
    assert weighted_accuracy([np.nan, 0.25], [0, 8]) == 0.25


@pytest.mark.parametrize(
    ("recall", "counts", "match"),
    [
        ([0.5, 0.5], [1, 2, 3], r"got \(2,\) and \(3,\)"),
        ([[0.5]], [[1]], "of each class"),
        ([0.5, 0.5], [1, -1], "0 or more"),
        ([0.5, 0.5], [1, np.nan], "0 or more"),
        ([np.nan, 0.5], [3, 0], "both a recall and a count"),
    ],
)
def test_weighted_accuracy_refuses(recall: object, counts: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        weighted_accuracy(recall, counts)  # type: ignore[arg-type]


# --- spread


@given(st.lists(st.floats(0, 1), min_size=2, max_size=60))
def test_spread_divides_by_one_less_than_the_runs(values: list[float]) -> None:
    mean = math.fsum(values) / len(values)
    variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    found = spread(values)
    assert (found.mean, found.n) == (pytest.approx(mean), len(values))
    assert found.std == pytest.approx(math.sqrt(variance), abs=1e-9)


def test_spread_is_shown_in_percent() -> None:
    found = Spread(0.5218, 0.00634, 50)
    assert str(found) == f"{found}" == "52.2 ± 0.6"
    assert f"{found:.2f}" == "52.18 ± 0.63"


def test_a_single_run_has_no_spread() -> None:
    assert spread([0.25]) == Spread(0.25, None, 1)
    assert str(spread([0.25])) == "25.0"


@pytest.mark.parametrize("values", [[], 0.5, [[0.5]]])
def test_spread_refuses_what_is_not_a_row_of_values(values: object) -> None:
    with pytest.raises(ValueError, match="at least one value"):
        spread(values)  # type: ignore[arg-type]


# --- bootstrap


def test_bootstrap_of_an_accuracy_is_close_to_wilsons_interval() -> None:
    right = np.arange(400) < 260
    np.testing.assert_allclose(bootstrap(np.mean, right), wilson(0.65, 400), atol=0.01)


def test_bootstrap_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    label = rng.integers(0, 7, 300)
    guess = np.where(rng.random(300) < 0.5, label, rng.integers(0, 7, 300))

    def weighted(label: NDArray[np.int64], guess: NDArray[np.int64]) -> float:
        return weighted_accuracy(recalls(label, guess, 7), TABLE1["test"])

    theirs = stats.bootstrap(
        (label, guess), weighted, paired=True, vectorized=False, n_resamples=2000,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose(bootstrap(weighted, label, guess), theirs, atol=0.01)


def test_bootstrap_is_seeded() -> None:
    right = np.arange(50) % 3 == 0
    assert bootstrap(np.mean, right, draws=200) == bootstrap(np.mean, right, draws=200)
    assert bootstrap(np.mean, right, draws=200) != bootstrap(np.mean, right, draws=200, seed=1)


def test_speakers_are_drawn_whole() -> None:
    """Twelve clips of a speaker that are all alike say as much as one, and no more."""
    right = np.random.default_rng(2).random(40) < 0.6
    who = [f"speaker {i}" for i in range(40)]
    one_each = bootstrap(np.mean, right, subject=who)
    assert bootstrap(np.mean, right.repeat(12), subject=np.repeat(who, 12)) == one_each
    taken_for_independent = bootstrap(np.mean, right.repeat(12))
    assert np.ptp(one_each) > 2 * np.ptp(taken_for_independent)


def test_clips_of_nobody_known_are_drawn_alone() -> None:
    right = np.arange(30) % 3 == 0
    unknown = [("", None)[i % 2] for i in range(30)]
    assert bootstrap(np.mean, right, subject=unknown) == bootstrap(np.mean, right)


def test_bootstrap_draws_labels_with_their_guesses() -> None:
    label = np.arange(90) % 7
    assert bootstrap(accuracy, label, label) == (1, 1)
    difference = bootstrap(
        lambda t, a, b: accuracy(t, a) - accuracy(t, b), label, label, np.zeros(90)
    )
    assert 0 < difference[0] < difference[1] < 1


def test_a_higher_level_is_a_wider_interval() -> None:
    right = np.arange(99) % 2 == 0
    assert np.ptp(bootstrap(np.mean, right, level=0.5)) < np.ptp(bootstrap(np.mean, right))


@pytest.mark.parametrize(
    ("clips", "options", "match"),
    [
        ((), {}, "one length"),
        ((np.zeros(0),), {}, "one length"),
        ((np.zeros(3), np.zeros(4)), {}, r"\[3, 4\]"),
        ((np.zeros(3),), {"subject": ["a", "b"]}, "each of 3 samples, got 2"),
        ((np.zeros(3),), {"draws": 0}, "draws >= 1"),
        ((np.zeros(3),), {"level": 1.0}, "level < 1"),
    ],
)
def test_bootstrap_refuses(clips: tuple, options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        bootstrap(np.mean, *clips, **options)


# --- McNemar


def pairs(b: int, c: int, same: int = 3) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    a_right = [True] * b + [False] * c + [True] * same + [False] * same
    b_right = [False] * b + [True] * c + [True] * same + [False] * same
    return np.array(a_right), np.array(b_right)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_counts_all_outcomes_that_are_no_likelier(b: int, c: int) -> None:
    n = b + c
    ways = [math.comb(n, k) for k in range(n + 1)]
    slow = Fraction(sum(w for w in ways if w <= ways[b]), 2**n)
    found = mcnemar(*pairs(b, c))
    assert (found.b, found.c) == (b, c)
    assert found.p == pytest.approx(float(slow), rel=1e-15)


@pytest.mark.parametrize(
    ("b", "c"), [(0, 0), (1, 0), (37, 52), (900, 1020), (4000, 0), (2500, 2500)]
)
def test_mcnemar_agrees_with_scipy_on_few_and_on_thousands(b: int, c: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(*pairs(b, c)).p == pytest.approx(theirs, rel=1e-9, abs=1e-300)


def test_mcnemar_of_a_model_and_itself_sees_no_difference() -> None:
    right = np.arange(9) % 2 == 0
    assert mcnemar(right, right) == McNemar(0, 0, 1.0)


@pytest.mark.parametrize("right", [[1, 0, 1], [True, False], [[True]] * 3])
def test_mcnemar_refuses_what_is_not_right_or_wrong(right: object) -> None:
    with pytest.raises(ValueError, match=r"two \(N,\) bool"):
        mcnemar(right, [True, False, True])  # type: ignore[arg-type]


# --- folds


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[str], list[int], int]:
    count = draw(st.integers(2, 6))
    size = draw(st.integers(count, 80))
    who = st.sampled_from(["", *"abcdefgh"])
    subject = draw(st.lists(who, min_size=size, max_size=size))
    subject[:count] = [f"#{i}" for i in range(count)]
    label = draw(st.lists(st.integers(-1, 6), min_size=size, max_size=size))
    return subject, label, count


@settings(deadline=None)
@given(corpora(), st.integers(0, 9))
def test_folds_cover_all_and_nobody_is_in_two(
    corpus: tuple[list[str], list[int], int], seed: int
) -> None:
    subject, label, count = corpus
    folds = np.array(list(folds_by_subject(subject, label, count, seed)))
    assert folds.shape == (count, len(subject))
    assert folds.dtype == np.bool_
    np.testing.assert_array_equal(folds.sum(axis=0), 1)
    assert folds.any(axis=1).all()
    where = folds.argmax(axis=0)
    for who in set(subject) - {""}:
        assert len({where[i] for i, name in enumerate(subject) if name == who}) == 1
    again = np.array(list(folds_by_subject(subject, label, count, seed)))
    np.testing.assert_array_equal(folds, again)


@given(st.lists(st.integers(0, 6), min_size=5, max_size=120), st.integers(0, 9))
def test_unknown_subjects_are_dealt_out_class_by_class(label: list[int], seed: int) -> None:
    totals = Counter(label)
    for fold in folds_by_subject([None] * len(label), label, 5, seed):
        held = Counter(np.array(label)[fold].tolist())
        assert all(abs(held[c] - totals[c] / 5) < 1 for c in totals)


def test_actors_who_say_the_same_make_equal_folds() -> None:
    """As in RAVDESS: 24 actors, each with as many of a class as the next."""
    said = np.repeat(np.arange(7), [8, 8, 8, 8, 8, 4, 8])
    subject = np.repeat([f"actor {i}" for i in range(24)], len(said))
    label = np.tile(said, 24)
    for fold in folds_by_subject(subject, label, 6, seed=3):
        assert len(set(subject[fold])) == 4
        np.testing.assert_array_equal(np.bincount(label[fold]), 4 * np.bincount(said))


def test_folds_are_nearly_as_even_as_the_best_of_all() -> None:
    """Against every way of dealing nine subjects out to two folds."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        has = rng.integers(0, 9, (9, 4)) + (np.arange(4) == 0)
        subject = np.repeat(np.repeat(list("abcdefghi"), 4), has.ravel())
        label = np.repeat(np.tile(np.arange(4), 9), has.ravel())

        def unevenness(held: NDArray[np.int64], has: NDArray[np.int64] = has) -> float:
            return float(np.abs(held / has.sum(axis=0) - 0.5).max())

        best = min(
            unevenness(has[[bool(way >> i & 1) for i in range(9)]].sum(axis=0))
            for way in range(2**9)
        )
        fold = next(folds_by_subject(subject, label, 2))
        assert unevenness(np.bincount(label[fold], minlength=4)) < best + 0.15


def test_the_seed_chooses_among_equals() -> None:
    label = [0] * 40
    one, other = (next(folds_by_subject([""] * 40, label, 4, seed)) for seed in (0, 1))
    assert (one != other).any()


@pytest.mark.parametrize("count", [0, 1, 4])
def test_folds_refuse_a_count_that_cannot_be(count: int) -> None:
    with pytest.raises(ValueError, match="from 2 to 3 folds"):
        folds_by_subject(["a", "a", "b", ""], [0, 1, 0, 1], count)


def test_folds_refuse_a_label_without_subject() -> None:
    with pytest.raises(ValueError, match="each of 3 samples, got 2"):
        folds_by_subject(["a", "b"], [0, 1, 2], 2)
