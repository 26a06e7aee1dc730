"""The native core: the same answers as the slow oracles, for any sizes, strides and numbers."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from occam_sdk import _core
from tests import reference

Matrix = NDArray[np.float32]

seeded = settings(derandomize=True, deadline=None, max_examples=150)

AWKWARD = st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, np.nan, np.inf, -np.inf, 1e-45, 3.4e38])
ANY_FLOAT = st.one_of(AWKWARD, st.floats(width=32))
FINITE_FLOAT = st.floats(width=32, allow_nan=False, allow_infinity=False)
HUGE = (2**31 - 1, 2**31, 2**32 + 1, 2**62, 2**63 - 2, 2**63 - 1)
CHUNKS = st.one_of(st.integers(1, 60), st.sampled_from(HUGE))


def _fortran(matrix: Matrix) -> Matrix:
    return np.asfortranarray(matrix)


def _sliced(matrix: Matrix) -> Matrix:
    rows, columns = matrix.shape
    around = np.full((2 * rows + 1, 3 * columns + 2), np.nan, np.float32)
    view = around[1 : 1 + 2 * rows : 2, 2 : 2 + 3 * columns : 3]
    view[...] = matrix
    return view


def _reversed(matrix: Matrix) -> Matrix:
    return matrix[::-1, ::-1].copy()[::-1, ::-1]


def _read_only(matrix: Matrix) -> Matrix:
    copy = np.frombuffer(matrix.tobytes(), np.float32).reshape(matrix.shape)
    assert not copy.flags.writeable
    return copy


LAYOUTS: dict[str, Callable[[Matrix], Matrix]] = {
    "C": np.ascontiguousarray,
    "Fortran": _fortran,
    "sliced": _sliced,
    "reversed": _reversed,
    "read-only": _read_only,
}
ANY_LAYOUT = st.sampled_from(sorted(LAYOUTS))


@st.composite
def matrices(
    draw: st.DrawFn,
    elements: st.SearchStrategy[float] = ANY_FLOAT,
    *,
    rows: st.SearchStrategy[int],
    columns: st.SearchStrategy[int],
) -> Matrix:
    """A matrix in any layout, also with strides of zero along either axis."""
    shape = draw(rows), draw(columns)
    repeat = draw(st.sampled_from(["nothing", "nothing", "nothing", "rows", "columns"]))
    stored = {"nothing": shape, "rows": (1, shape[1]), "columns": (shape[0], 1)}[repeat]
    matrix = draw(arrays(np.float32, stored, elements=elements, fill=st.nothing()))
    if repeat == "nothing":
        return LAYOUTS[draw(ANY_LAYOUT)](matrix)
    return np.broadcast_to(matrix, shape)


def _scale(matrix: Matrix) -> float:
    return float(np.abs(matrix).max(initial=0))


# ---- select_frames


@seeded
@given(matrices(rows=st.integers(0, 40), columns=st.integers(0, 5)), CHUNKS)
def test_selection_agrees_with_the_oracle(scores: Matrix, n: int) -> None:
    assert _core.select_frames(scores, n).tolist() == reference.select_frames(scores, n)


@seeded
@given(st.integers(0, 4000), st.integers(1, 4000))
@example(4000, 16)
@example(16, 16)
@example(17, 16)
@example(15, 16)
def test_chunk_i_starts_at_floor_of_i_t_over_n(frames: int, n: int) -> None:
    same_everywhere = np.broadcast_to(np.float32(0.5), (frames, 1))
    # Of equal frames the first of each chunk is kept, so what is kept are the chunks' starts.
    starts = sorted(set(reference.chunk_bounds(frames, n)[:-1])) if frames else []
    assert _core.select_frames(same_everywhere, n).tolist() == starts


@pytest.mark.parametrize(("frames", "n"), [(10_000_019, 16), (3_000_017, 2_999_999)])
def test_chunk_bounds_hold_for_millions_of_frames(frames: int, n: int) -> None:
    scores = np.broadcast_to(np.float32(0.5), (frames, 1))
    starts = np.arange(n, dtype=np.int64) * frames // n
    np.testing.assert_array_equal(_core.select_frames(scores, n), starts)


@pytest.mark.parametrize("n", HUGE)
def test_more_chunks_than_frames_keep_every_frame_however_many(n: int) -> None:
    assert _core.select_frames(np.ones((5, 7), np.float32), n).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("scores", "n", "kept"),
    [
        pytest.param([[0.1, 0.2], [0.9, 0.1], [0.3, 0.3], [0.2, 0.4]], 2, [1, 3], id="highest"),
        pytest.param([[0.5], [0.5], [0.5], [0.5]], 2, [0, 2], id="a tie takes the first"),
        pytest.param([[0.1, 0.9], [0.9, 0.1]], 1, [0], id="a tie between categories too"),
        pytest.param([[0.0], [-0.0]], 1, [0], id="zero and minus zero are a tie"),
        pytest.param([[0.9, np.nan], [0.1, 0.2]], 1, [1], id="one NaN rules a frame out"),
        pytest.param([[np.nan], [np.nan], [0.1], [0.2]], 2, [3], id="a chunk of NaN keeps none"),
        pytest.param([[np.nan], [0.1]], 5, [1], id="NaN with T < n"),
        pytest.param([[-np.inf], [-np.inf]], 1, [0], id="minus infinity is a score"),
        pytest.param([[1e38], [np.inf]], 1, [1], id="infinity is the highest"),
        pytest.param([[0.1], [0.9], [0.5]], 1, [1], id="one chunk"),
        pytest.param([[0.1], [0.9], [0.5]], 3, [0, 1, 2], id="T = n"),
    ],
)
def test_selection_by_example(scores: list[list[float]], n: int, kept: list[int]) -> None:
    assert _core.select_frames(np.array(scores, np.float32), n).tolist() == kept


@pytest.mark.parametrize("shape", [(0, 7), (0, 0), (9, 0)])
def test_without_frames_or_without_categories_nothing_is_selected(shape: tuple[int, int]) -> None:
    kept = _core.select_frames(np.zeros(shape, np.float32), 4)
    assert (kept.shape, kept.dtype) == ((0,), np.int64)


@pytest.mark.parametrize("n", [0, -1, -(2**63)])
def test_fewer_than_one_chunk_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="n: expected at least 1 chunk"):
        _core.select_frames(np.ones((3, 2), np.float32), n)


@pytest.mark.parametrize("n", [2.0, "3", None, 2**63, -(2**63) - 1])
def test_n_must_be_an_int_of_64_bits(n: object) -> None:
    with pytest.raises(TypeError, match="n: "):
        _core.select_frames(np.ones((3, 2), np.float32), n)  # type: ignore[arg-type]


# ---- mean_pool


@seeded
@given(matrices(rows=st.integers(1, 30), columns=st.integers(0, 6)))
def test_the_mean_agrees_with_the_oracle(embeddings: Matrix) -> None:
    finite = np.where(np.isfinite(embeddings), embeddings, np.float32(0))
    # Sums in double: what remains is one rounding to float32.
    np.testing.assert_allclose(
        _core.mean_pool(embeddings),
        reference.mean_pool(embeddings),
        rtol=1e-7,
        atol=1e-13 * _scale(finite) + 2e-45,
    )


def test_sums_are_kept_in_double() -> None:
    embeddings = np.array([[2.0**24], *[[1.0]] * 1023], np.float32)
    expected = (2.0**24 + 1023) / 1024
    np.testing.assert_allclose(_core.mean_pool(embeddings), [expected], rtol=1e-7)
    np.testing.assert_allclose(_core.mean_pool(embeddings[::-1]), [expected], rtol=1e-7)


def test_nan_and_infinity_stay_in_their_column() -> None:
    embeddings = np.array([[np.nan, np.inf, np.inf, 1.0], [0.0, 0.0, -np.inf, 2.0]], np.float32)
    np.testing.assert_array_equal(_core.mean_pool(embeddings), [np.nan, np.inf, np.nan, 1.5])


# ---- sigmoid_weighted_pool


def _check_weighted(
    embeddings: Matrix, valence_arousal: Matrix, weight: list[float], bias: float
) -> None:
    # exp in double of a number up to 1e7 is good to 1e-9; the rest is one rounding to float32.
    np.testing.assert_allclose(
        _core.sigmoid_weighted_pool(embeddings, valence_arousal, weight, bias),
        reference.sigmoid_weighted_pool(embeddings, valence_arousal, weight, bias),
        rtol=1e-7,
        atol=1e-8 * _scale(embeddings) + 2e-45,
    )


@seeded
@given(st.data(), st.integers(1, 12), st.sampled_from([1.0, 30.0, 1e3, 1e6]))
def test_the_weighted_mean_agrees_with_the_oracle(
    data: st.DataObject, frames: int, reach: float
) -> None:
    rows = st.just(frames)
    embeddings = data.draw(matrices(FINITE_FLOAT, rows=rows, columns=st.integers(0, 4)))
    in_range = st.floats(-1, 1, width=32)
    valence_arousal = data.draw(matrices(in_range, rows=rows, columns=st.just(2)))
    coefficient = st.floats(-reach, reach)
    weight = [data.draw(coefficient), data.draw(coefficient)]
    _check_weighted(embeddings, valence_arousal, weight, data.draw(coefficient))


@pytest.mark.parametrize("bias", [-1e6, -1e3, -745.2, -40.0, 0.0, 40.0, 1e3, 1e6])
def test_weights_that_all_round_to_zero_or_one_are_still_told_apart(bias: float) -> None:
    embeddings = np.array([[1.0, -1.0], [2.0, 0.0], [4.0, 8.0]], np.float32)
    valence_arousal = np.array([[0.5, -0.5], [0.0, 0.25], [1.0, -1.0]], np.float32)
    _check_weighted(embeddings, valence_arousal, [2.0, -1.0], bias)


def test_equal_weights_give_the_plain_mean() -> None:
    embeddings = np.random.default_rng(0).normal(size=(16, 512)).astype(np.float32)
    valence_arousal = np.full((16, 2), 0.3, np.float32)
    weighted = _core.sigmoid_weighted_pool(embeddings, valence_arousal, [5.0, -3.0], -900.0)
    np.testing.assert_allclose(weighted, _core.mean_pool(embeddings), rtol=1e-6, atol=1e-7)


def test_of_one_frame_the_weighted_mean_is_that_frame() -> None:
    frame = np.array([[0.1, -7.0, 3e38]], np.float32)
    pooled = _core.sigmoid_weighted_pool(frame, np.ones((1, 2), np.float32), [-1e5, -1e5], -1e5)
    np.testing.assert_array_equal(pooled, frame[0])


def test_nan_in_valence_shows_in_the_weighted_mean() -> None:
    valence_arousal = np.array([[0.1, 0.2], [np.nan, 0.2]], np.float32)
    pooled = _core.sigmoid_weighted_pool(np.ones((2, 3), np.float32), valence_arousal, [1, 1], 0)
    assert np.isnan(pooled).all()


@pytest.mark.parametrize(
    ("weight", "bias", "error", "named"),
    [
        ([1.0], 0.0, ValueError, "weight: expected 2 numbers"),
        ([1.0, 2.0, 3.0], 0.0, ValueError, "weight: expected 2 numbers"),
        ([1.0, np.nan], 0.0, ValueError, "weight, bias: expected finite"),
        ([np.inf, 1.0], 0.0, ValueError, "weight, bias: expected finite"),
        ([1.0, 1.0], -np.inf, ValueError, "weight, bias: expected finite"),
        (["a", "b"], 0.0, TypeError, "weight: "),
        (None, 0.0, TypeError, "weight: "),
        ([1.0, 1.0], None, TypeError, "bias: "),
    ],
)
def test_weights_that_are_no_two_finite_numbers_are_refused(
    weight: object, bias: object, error: type[Exception], named: str
) -> None:
    ones = np.ones((3, 2), np.float32)
    with pytest.raises(error, match=named):
        _core.sigmoid_weighted_pool(ones, ones, weight, bias)  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [(0.5, -0.5), np.array([0.5, -0.5])], ids=["tuple", "array"])
def test_weights_may_be_any_sequence(weight: object) -> None:
    ones = np.ones((3, 2), np.float32)
    pooled = _core.sigmoid_weighted_pool(ones, ones, weight, 0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(pooled, [1, 1])


# ---- what all three ask of a matrix

_PAIRS = np.ones((3, 2), np.float32)
# Each matrix argument: its name, and a call that passes it with everything else in order.
ARGUMENTS: dict[str, tuple[str, Callable[[object], Matrix]]] = {
    "select_frames": ("scores", lambda m: _core.select_frames(m, 2)),  # type: ignore[arg-type]
    "mean_pool": ("embeddings", lambda m: _core.mean_pool(m)),  # type: ignore[arg-type]
    "sigmoid_weighted_pool-1": (
        "embeddings",
        lambda m: _core.sigmoid_weighted_pool(m, _PAIRS, [1, 1], 0),  # type: ignore[arg-type]
    ),
    "sigmoid_weighted_pool-2": (
        "valence_arousal",
        lambda m: _core.sigmoid_weighted_pool(_PAIRS, m, [1, 1], 0),  # type: ignore[arg-type]
    ),
}
each_argument = pytest.mark.parametrize(("name", "call"), ARGUMENTS.values(), ids=ARGUMENTS.keys())


@each_argument
@pytest.mark.parametrize(
    ("matrix", "got"),
    [
        pytest.param(_PAIRS.astype(np.float64), "float64", id="float64"),
        pytest.param(_PAIRS.astype(np.float16), "float16", id="float16"),
        pytest.param(_PAIRS.astype(np.int32), "int32", id="int32"),
        pytest.param(_PAIRS.astype(">f4"), ">f4", id="big-endian"),
        pytest.param(_PAIRS.astype(object), "object", id="object"),
        pytest.param(_PAIRS.tolist(), "list", id="list"),
        pytest.param(None, "NoneType", id="None"),
        pytest.param(np.float32(1), "float32", id="scalar"),
        pytest.param(_PAIRS.tobytes(), "bytes", id="bytes"),
    ],
)
def test_anything_but_a_float32_array_is_a_type_error(
    name: str, call: Callable[[object], Matrix], matrix: object, got: str
) -> None:
    with pytest.raises(TypeError, match=rf"^{name}: expected .* float32, got .*{got}"):
        call(matrix)


@each_argument
@pytest.mark.parametrize("shape", [(), (6,), (1, 3, 2)])
def test_anything_but_two_axes_is_a_value_error(
    name: str, call: Callable[[object], Matrix], shape: tuple[int, ...]
) -> None:
    with pytest.raises(
        ValueError, match=rf"^{name}: expected \(T, .*got \({', '.join(map(str, shape))}"
    ):
        call(np.ones(shape, np.float32))


@each_argument
def test_elements_off_the_float32_boundaries_are_a_value_error(
    name: str, call: Callable[[object], Matrix]
) -> None:
    shifted = np.frombuffer(bytes(4 * 6 + 1), np.float32, count=6, offset=1).reshape(3, 2)
    odd_rows = np.zeros(3, [("value", np.float32, 2), ("pad", "u1", 2)])["value"]
    odd_columns = np.zeros((3, 2), [("value", np.float32), ("pad", "u1", 2)])["value"]
    assert (odd_rows.strides, odd_columns.strides) == ((10, 4), (12, 6))
    for matrix in (shifted, odd_rows, odd_columns):
        with pytest.raises(ValueError, match=rf"^{name}: .*np.ascontiguousarray\({name}\)"):
            call(matrix)


@pytest.mark.parametrize("columns", [0, 512])
def test_there_is_no_mean_of_no_frames(columns: int) -> None:
    none = np.zeros((0, columns), np.float32)
    with pytest.raises(ValueError, match="embeddings: expected at least one frame"):
        _core.mean_pool(none)
    with pytest.raises(ValueError, match="embeddings: expected at least one frame"):
        _core.sigmoid_weighted_pool(none, np.zeros((0, 2), np.float32), [1, 1], 0)


@pytest.mark.parametrize("shape", [(2, 2), (4, 2), (0, 2), (3, 1), (3, 3), (2, 3)])
def test_every_frame_needs_one_valence_and_one_arousal(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"valence_arousal: expected \(3, 2\) float32, got"):
        _core.sigmoid_weighted_pool(_PAIRS, np.ones(shape, np.float32), [1, 1], 0)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_input_is_never_written_and_output_is_the_callers_own(layout: str) -> None:
    rng = np.random.default_rng(1)
    scores = LAYOUTS[layout](rng.random((40, 7), np.float32))
    valence_arousal = LAYOUTS[layout](rng.random((40, 2), np.float32))
    before = scores.tobytes(), valence_arousal.tobytes()

    def run() -> list[NDArray[np.generic]]:
        return [
            _core.select_frames(scores, 16),
            _core.mean_pool(scores),
            _core.sigmoid_weighted_pool(scores, valence_arousal, [1, 1], 0),
        ]

    first, second = run(), run()
    for one, other in zip(first, second, strict=True):
        assert one.flags.writeable
        assert not any(np.shares_memory(one, x) for x in (scores, valence_arousal, other))
        np.testing.assert_array_equal(one, other)
        one[...] = 0  # its owner may do as it likes
    assert (scores.tobytes(), valence_arousal.tobytes()) == before
    assert [array.any() for array in second] == [True, True, True]


def test_output_outlives_the_input() -> None:
    embeddings = np.full((100, 100_000), 3, np.float32)
    pooled = _core.mean_pool(embeddings)
    del embeddings
    gc.collect()
    np.full((100, 100_000), 9, np.float32)  # likely to be given the same memory
    np.testing.assert_array_equal(pooled, np.full(100_000, 3, np.float32))


# ---- threads


def test_threads_that_share_an_array_get_the_same_answers() -> None:
    rng = np.random.default_rng(2)
    embeddings = rng.normal(size=(300, 512)).astype(np.float32)
    scores, valence_arousal = embeddings[:, :7], embeddings[:, 7:9]

    def run(_: int) -> tuple[bytes, bytes, bytes]:
        return (
            _core.select_frames(scores, 16).tobytes(),
            _core.mean_pool(embeddings).tobytes(),
            _core.sigmoid_weighted_pool(embeddings, valence_arousal, [1, -1], 0.5).tobytes(),
        )

    alone = run(0)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(run, range(100))) == {alone}


@pytest.fixture
def no_forced_switches() -> Iterator[None]:
    """A thread keeps the interpreter until it lets go of it by itself."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(interval_s)


def _lets_others_run(call: Callable[[], object]) -> bool:
    order = []

    def work() -> None:
        order.append("call")
        call()
        order.append("return")

    worker = threading.Thread(target=work)
    worker.start()  # waits for the worker to run, which then has the interpreter
    order.append("another thread")
    worker.join()
    return order == ["call", "another thread", "return"]


def test_the_probe_tells_a_call_that_keeps_the_interpreter(no_forced_switches: None) -> None:
    assert not any(_lets_others_run(lambda: sum(range(1_000_000))) for _ in range(3))


_LONG = np.broadcast_to(np.float32(0.5), (60_000_000, 1))
_LONG_PAIRS = np.broadcast_to(np.float32(0.5), (4_000_000, 2))


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: _core.select_frames(_LONG, 16), id="select_frames"),
        pytest.param(lambda: _core.mean_pool(_LONG), id="mean_pool"),
        pytest.param(
            lambda: _core.sigmoid_weighted_pool(_LONG_PAIRS, _LONG_PAIRS, [1, 1], 0),
            id="sigmoid_weighted_pool",
        ),
    ],
)
def test_other_threads_run_while_the_core_computes(
    call: Callable[[], object], no_forced_switches: None
) -> None:
    # Each call takes tenths of a second; a machine may still be too busy to wake a thread in one.
    assert any(_lets_others_run(call) for _ in range(5))
