"""Records go into a file and come back to the last bit, and a file cannot have anything else made."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

from pipelines.records import decode, encode
from pipelines.stage import ClipItem, SourceItem
from reconstruct.fitting.problem import Known
from schemas.errors import TalksetError
from schemas.types import Clip, FaceTrack, Source, Span, VideoInfo

TRACK = FaceTrack(np.array([0, 40_000], np.int64), np.array([[0.1, 2, 3, 4], [1, 2, 3, 1 / 3]], np.float32))
CLIP = ClipItem(
    Clip("c", "s", Span(0, 80_000), TRACK),
    Path("/data/ä b.mp4"),
    "ab" * 32,
    VideoInfo(64, 48, Fraction(30_000, 1001), 80_000, 0, 0, None, None),
    speaker="größe",
    uri="x.mp4",
    person=Known(np.linspace(-1, 1, 7, dtype=np.float32), 512.5),
)
SOURCE = SourceItem("u", Source("x.mp4", 3, start_us=5, labels={"a": "b"}), Path("x.mp4"), "cd" * 32)


def through_a_file(value: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value))))


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
        assert one.shape == other.shape
    else:
        assert one == other


@pytest.mark.parametrize("item", [CLIP, SOURCE])
def test_items_come_back(item: Any) -> None:
    assert_same(through_a_file(item), item)


@given(some.arrays(st.sampled_from([np.float32, np.float64, np.int64, np.bool_]), some.array_shapes(min_side=0)))
def test_arrays_come_back_to_the_last_bit(array: Any) -> None:
    back = through_a_file(array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)  # NaN included; JSON has one NaN only


def test_tuples_maps_and_fractions_come_back() -> None:
    value = {"a": (1, [2.5, None]), "$array": Fraction(1, 3), "b": {"x": True}}
    assert through_a_file(value) == value


@pytest.mark.parametrize(
    "record",
    [
        {"$record": "subprocess:Popen", "fields": {"args": ["touch", "x"]}},
        {"$record": "pipelines.records:decode", "fields": {"value": 1}},
        {"$record": "schemas.files:Path", "fields": {}},
        {"$record": "schemas.types:Span.__init__", "fields": {}},
        {"$record": "schemas.types:Span", "fields": {"start_us": 1, "until": 2}},
        {"$record": "schemas.nothing:Span", "fields": {}},
        {"$array": "O", "shape": [1], "data": [1]},
        {"$array": "<f4", "shape": [3], "data": [1]},
        {"$fraction": [1, 0]},
        {"other": 1},
    ],
)
def test_nothing_else_is_made_from_a_file(record: dict[str, Any]) -> None:
    with pytest.raises(TalksetError, match="cannot be read") as caught:
        decode(record)
    assert caught.value.reason == "corrupt_data"


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot lie in a file"):
        encode({"x": object()})
