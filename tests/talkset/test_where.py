"""The filter language against a row-by-row reference with three-valued logic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkset.where import WhereError, parse_where

RNG = np.random.default_rng(5)
SIZE = 60


def _with_holes(values: list[Any], share: float = 0.2) -> list[Any]:
    return [None if hole else value for value, hole in zip(values, RNG.random(SIZE) < share, strict=True)]


COLUMNS: dict[str, list[Any]] = {
    "clip_id": [f"c{n}" for n in range(SIZE)],
    "speaker": _with_holes([("s1", "s2", "größe", "a'b")[n % 4] for n in range(SIZE)]),
    "nme_mean": _with_holes((RNG.integers(0, 8, SIZE) / 4).tolist()),
    "num_frames": _with_holes(RNG.integers(-2, 5, SIZE).tolist()),
    "has_audio": _with_holes((RNG.random(SIZE) < 0.5).tolist()),
}
TYPES = [pa.string(), pa.string(), pa.float64(), pa.int32(), pa.bool_()]
TABLE = pa.table(
    {name: pa.array(values, type=kind) for (name, values), kind in zip(COLUMNS.items(), TYPES, strict=True)}
)
ROWS = TABLE.to_pylist()
OPS: dict[str, Any] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
Tree = tuple[Any, ...]


def literals(column: str) -> st.SearchStrategy[Any]:
    if column in ("speaker", "clip_id"):
        return st.sampled_from(["s1", "s2", "größe", "a'b", "c7", "", "' or True"])
    if column == "has_audio":
        return st.booleans()
    return st.one_of(st.integers(-3, 6), st.sampled_from([0.25, 0.5, 1.0, -1.5]))


def leaves() -> st.SearchStrategy[Tree]:
    def of(column: str) -> st.SearchStrategy[Tree]:
        return st.one_of(
            st.tuples(st.just("cmp"), st.just(column), st.sampled_from(list(OPS)), literals(column)),
            st.tuples(st.just("pmc"), st.just(column), st.sampled_from(list(OPS)), literals(column)),
            st.tuples(st.just("in"), st.just(column), st.lists(literals(column), max_size=3)),
            st.tuples(st.just("null"), st.just(column), st.booleans()),
        )

    return st.one_of(st.sampled_from(list(COLUMNS)).flatmap(of), st.just(("bool", "has_audio")))


TREES = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.tuples(st.just("and"), inner, inner),
        st.tuples(st.just("or"), inner, inner),
        st.tuples(st.just("not"), inner),
    ),
    max_leaves=8,
)


def text(tree: Tree) -> str:
    match tree:
        case ("cmp", column, op, value):
            return f"{column} {op} {value!r}"
        case ("pmc", column, op, value):
            return f"{value!r} {op} {column}"
        case ("in", column, values):
            return f"{column} in {values!r}"
        case ("null", column, is_null):
            return f"{column} {'==' if is_null else '!='} None"
        case ("bool", column):
            return str(column)
        case ("not", inner):
            return f"not ({text(inner)})"
        case (word, left, right):
            return f"({text(left)}) {word} ({text(right)})"
    raise AssertionError(tree)


def truth(tree: Tree, row: dict[str, Any]) -> bool | None:
    """Kleene logic: None is unknown."""
    match tree:
        case ("null", column, is_null):
            return bool((row[column] is None) == is_null)
        case ("not", inner):
            value = truth(inner, row)
            return None if value is None else not value
        case ("and", left, right):
            values = (truth(left, row), truth(right, row))
            return False if False in values else None if None in values else True
        case ("or", left, right):
            values = (truth(left, row), truth(right, row))
            return True if True in values else None if None in values else False
        case (kind, column, *rest):
            cell: Any = row[column]
            if cell is None:
                return None
            if kind == "bool":
                return bool(cell)
            if kind == "in":
                return bool(cell in rest[0])
            result = OPS[rest[0]](cell, rest[1]) if kind == "cmp" else OPS[rest[0]](rest[1], cell)
            return bool(result)
    raise AssertionError(tree)


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_filter_equals_the_reference(tree: Tree) -> None:
    expression, used = parse_where(text(tree), TABLE.schema)
    assert used <= set(COLUMNS)
    expected = [row["clip_id"] for row in ROWS if truth(tree, row) is True]
    assert TABLE.filter(expression)["clip_id"].to_pylist() == expected


def test_chains_and_columns_against_columns() -> None:
    expression, used = parse_where("0.25 < nme_mean <= num_frames", TABLE.schema)
    assert used == {"nme_mean", "num_frames"}
    kept = [
        row["clip_id"]
        for row in ROWS
        if None not in (row["nme_mean"], row["num_frames"]) and 0.25 < row["nme_mean"] <= row["num_frames"]
    ]
    assert kept
    assert TABLE.filter(expression)["clip_id"].to_pylist() == kept


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        ("speeker == 's1'", "did you mean 'speaker'"),
        ("nme_mean < 'x'", "'x'\" is text, but it is compared with number"),
        ("speaker == 1", "is number, but it is compared with text"),
        ("has_audio == 1", "is number, but it is compared with bool"),
        ("nme_mean", "is not true or false"),
        ("1 == 1", "without a column"),
        ("__import__('os').system('true')", "is not possible"),
        ("speaker.upper() == 'S1'", "is not possible"),
        ("[x for x in speaker]", "is not possible"),
        ("(lambda: 1)() < nme_mean", "is not possible"),
        ("num_frames + 1 > 2", "is not possible"),
        ("speaker < None", "only be compared"),
        ("speaker in 's1'", "write a list"),
        ("speaker in ('s1', 2)", "must be a text"),
        ("speaker in ('s1', None)", "is not possible"),
        ("num_frames == 99999999999999999999", "too large"),
        ("nme_mean <", "cannot be read"),
        ("", "cannot be read"),
        ("a" * 10 + "\0", "cannot be read"),
        ("not " * 5000 + "has_audio", "cannot be read"),
        ("speaker is 's1'", "write =="),
    ],
)
def test_bad_filters_are_explained(where: str, hint: str) -> None:
    with pytest.raises(WhereError) as caught:
        parse_where(where, TABLE.schema)
    assert hint in str(caught.value) or "nested too deeply" in str(caught.value)
