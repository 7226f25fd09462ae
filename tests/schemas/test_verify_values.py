"""Batches of lists against a plain loop over rows and frames."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.tables import BOOLS, FLOATS, INTS, Column
from schemas.verify_report import Report
from schemas.verify_values import Rows, Widths, check_lengths, check_list_values, check_times, shown

SIGNAL = Column("signal", FLOATS, "", ("T", 2), low=-1, high=1)
VALID = Column("valid", BOOLS, "", ("T",))
TIMES = Column("pts_us", INTS, "", ("T",))
VALUE = st.sampled_from([0.0, 0.5, -1.0, 1.5, float("nan"), float("inf")])
CELL = st.tuples(
    st.lists(st.tuples(VALUE, VALUE, st.booleans()), min_size=1, max_size=4), st.sampled_from([0, 0, 0, 1])
)


def _bad(frames: list[tuple[float, float, bool]]) -> str | None:
    """What a loop finds first of one row: not finite, numbers where not valid, out of range."""
    if any(valid and not (np.isfinite(a) and np.isfinite(b)) for a, b, valid in frames):
        return "not finite"
    if any(not valid and not (np.isnan(a) and np.isnan(b)) for a, b, valid in frames):
        return "where it is not valid"
    if any(valid and max(abs(a), abs(b)) > 1 for a, b, valid in frames):
        return "signal holds 1.5, expected -1..1"
    return None


@settings(max_examples=80, deadline=None)
@given(st.lists(CELL, min_size=1, max_size=6))
def test_values_against_a_loop(cells: list[tuple[list[tuple[float, float, bool]], int]]) -> None:
    report = Report()
    signal = [[value for a, b, _ in frames for value in (a, b)] + [0.0] * extra for frames, extra in cells]
    values = {
        "clip_id": pa.array([f"c{number}" for number in range(len(cells))]),
        "signal": pa.array(signal, FLOATS),
        "valid": pa.array([[valid for *_, valid in frames] for frames, _ in cells], BOOLS),
    }
    rows = Rows(report, "file", 100, values)
    frames = np.array([len(frames) for frames, _ in cells], np.int64)
    models = np.zeros(len(cells), np.int32)
    valid = check_lengths(rows, VALID, frames, Widths(), models)
    lists = check_lengths(rows, SIGNAL, frames, Widths(), models)
    check_list_values(rows, SIGNAL, lists, frames, valid, True)
    messages = [problem.message for problem in report.problems()]
    for number, (content, extra) in enumerate(cells):
        mine = [text for text in messages if text.startswith(f"row {100 + number} (clip c{number}): ")]
        expected = f"signal has {len(signal[number])} values" if extra else _bad(content)
        assert bool(mine) == bool(expected), (mine, expected)
        if expected:
            assert any(expected in text for text in mine), (mine, expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 12), min_size=1, max_size=4), min_size=1, max_size=5))
def test_times_against_a_loop(cells: list[list[int]]) -> None:
    report = Report()
    names = pa.array([str(number) for number in range(len(cells))])
    rows = Rows(report, "file", 0, {"clip_id": names, "pts_us": pa.array(cells, INTS)})
    frames = np.array([len(cell) for cell in cells], np.int64)
    lists = check_lengths(rows, TIMES, frames, Widths(), np.zeros(len(cells), np.int32))
    check_times(rows, lists, frames, np.full(len(cells), 10))
    wrong = [
        number
        for number, cell in enumerate(cells)
        if cell[0] < 0 or cell[-1] >= 10 or any(b <= a for a, b in itertools.pairwise(cell))
    ]
    assert [problem.message.split()[1] for problem in report.problems()] == [str(number) for number in wrong]


def test_sizes_of_a_model_are_those_of_most_rows() -> None:
    widths = Widths()
    models = np.array([0, 0, 0, 1], np.int32)
    assert widths.expected("S", models, np.array([79, 80, 80, 300])).tolist() == [80, 80, 80, 300]
    assert widths.expected("S", models, np.array([79, 79, 79, -1])).tolist() == [80, 80, 80, 300]
    assert widths.expected("E", models, np.array([-1, -1, -1, 50])).tolist() == [-1, -1, -1, 50]


def test_an_axis_of_no_size() -> None:
    column = Column("expression", FLOATS, "", ("T", "E"), low=-1, high=1)
    report = Report()
    rows = Rows(report, "file", 0, {"clip_id": pa.array(["a", "b"]), "expression": pa.array([[], []], FLOATS)})
    frames = np.array([3, 2], np.int64)
    lists = check_lengths(rows, column, frames, Widths(), np.zeros(2, np.int32))
    valid = check_lengths(
        Rows(report, "file", 0, {**rows.values, "valid": pa.array([[True] * 3, [False] * 2], BOOLS)}),
        VALID,
        frames,
        Widths(),
        np.zeros(2, np.int32),
    )
    check_list_values(rows, column, lists, frames, valid, False)
    assert report.problems() == []


def test_odd_text_is_shown_short_and_plain() -> None:
    assert shown("a\nb\x1b[31m") == repr("a\nb\x1b[31m")
    assert len(shown("x" * 10_000)) == 83
    assert shown(pa.scalar(None, pa.string())) == "None"
