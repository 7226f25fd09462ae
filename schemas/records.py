"""One clip as the rows of the tables: checked before anything is written, so a bad clip never costs a good one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.errors import REASONS
from schemas.labels import EVENT_KINDS
from schemas.ranges import out_of_range, scalar_out_of_range
from schemas.tables import EVENTS, INDEX, LANDMARKS, PARAMS, PHONES, SAFE_NAME, STATUSES, WORDS, Column, Table
from schemas.types import (
    BodyLandmarks,
    BodyTrack,
    EmotionTrack,
    Event,
    HeadTrack,
    Interval,
    LandmarkTrack,
    Style,
    Transcription,
)

Row = dict[str, Any]
_PLACED = ("shard", "row")
"""Index columns that only the writer knows."""


@dataclass(frozen=True)
class ClipRecord:
    """Everything that is stored of one clip; a rejected or failed one has only its index values.

    `index` holds the scalar columns of the index table except shard and row; absent values may be left out or None.
    """

    index: Mapping[str, Any]
    head: HeadTrack | None = None
    landmarks: LandmarkTrack | None = None
    transcription: Transcription | None = None
    events: tuple[Event, ...] = field(default=())
    fingerprint: str | None = None
    """Text of a `schemas.fingerprint.Fingerprint`."""
    body: BodyTrack | None = None
    body_landmarks: BodyLandmarks | None = None
    emotion: EmotionTrack | None = None
    style: Style | None = None


@dataclass(frozen=True)
class ClipRows:
    """The checked rows of one clip by table name; params and landmarks are None for a clip that is not accepted."""

    index: Row
    params: Row | None
    landmarks: Row | None
    words: list[Row]
    phones: list[Row]
    events: list[Row]
    head_model: str


def clip_rows(record: ClipRecord) -> ClipRows:
    """Check a record against the tables and turn it into rows.

    Raises ValueError that names clip, column, value and what was expected.
    """
    index = _index_row(record.index)
    if record.head is not None:
        index["head_model"] = record.head.head_model
    if record.landmarks is not None:
        index["detector"] = record.landmarks.detector
    clip_id = index["clip_id"]
    accepted = index["status"] == "accepted"
    if accepted != (record.head is not None and record.landmarks is not None):
        raise ValueError(f"clip {clip_id}: an accepted clip needs head and landmarks, and no other clip may have them")
    parts = (record.head, record.landmarks, record.transcription, record.events, record.fingerprint)
    if not accepted and any(parts):
        raise ValueError(f"clip {clip_id}: a {index['status']} clip may hold only index values")
    if record.head is None or record.landmarks is None:
        return ClipRows(index, None, None, [], [], [], "")
    for name in ("start_us", "end_us", "num_frames"):
        if index[name] is None:
            raise ValueError(f"clip {clip_id}: an accepted clip needs the index value {name}")
    duration_us = index["end_us"] - index["start_us"]
    common = {"clip_id": clip_id, "num_frames": index["num_frames"], "pts_us": record.landmarks.pts_us}
    params = _track_row(PARAMS, {**common, **vars(record.head), **_body_params(record), **_labels(record)})
    found = {**vars(record.landmarks), "fingerprint": record.fingerprint, **_body_points(record)}
    landmarks = _track_row(LANDMARKS, {**common, **found})
    pts = params["pts_us"]
    if len(pts) == 0 or pts[0] < 0 or pts[-1] >= duration_us or (np.diff(pts) <= 0).any():
        raise ValueError(f"clip {clip_id}: pts_us must rise from 0 or later to before the end {duration_us}")
    text = record.transcription or Transcription((), ())
    return ClipRows(
        index,
        params,
        landmarks,
        _word_rows(clip_id, duration_us, text),
        [_interval_row(clip_id, duration_us, PHONES, vars(phone)) for phone in text.phones],
        [_interval_row(clip_id, duration_us, EVENTS, vars(event)) for event in record.events],
        record.head.head_model,
    )


_BODY_PARAMS = (
    *("body_model", "betas", "body_pose", "left_hand_pose", "right_hand_pose", "body_global_pose"),
    *("body_translation", "body_joint_valid"),
)
_BODY_POINTS = ("pose_xyc", "left_hand_xyc", "right_hand_xyc")


def _body_params(record: ClipRecord) -> Row:
    """Columns of the body, None without one; frames without a face are NaN as everywhere."""
    if record.body is None or record.head is None:
        return dict.fromkeys(_BODY_PARAMS)
    values: Row = {name: getattr(record.body, name) for name in _BODY_PARAMS}
    for name in _BODY_PARAMS[2:-1]:
        values[name] = np.where(record.head.valid[:, None], values[name], np.float32(np.nan))
    return values


def _labels(record: ClipRecord) -> Row:
    """Columns of emotion and style, None without them; what the sound tells holds where no face is seen, too."""
    emotion, style = record.emotion, record.style
    return {
        "emotion_probabilities": None if emotion is None else emotion.probabilities,
        "affect": None if emotion is None else emotion.affect,
        "clip_emotion": None if emotion is None else emotion.clip,
        "style_embedding": None if style is None else style.embedding,
        "style_model": None if style is None else style.model,
    }


def _body_points(record: ClipRecord) -> Row:
    """Landmarks of body and hands, None without them; zeros with confidence 0 where only they were not found."""
    found = record.body_landmarks
    if found is None or record.landmarks is None:
        return dict.fromkeys((*_BODY_POINTS, "body_detector"))
    seen = record.landmarks.valid[:, None, None]
    values: Row = {}
    for name in _BODY_POINTS:
        points = np.nan_to_num(getattr(found, name), nan=0.0)
        values[name] = np.where(seen, points, np.float32(np.nan))
    return {**values, "body_detector": found.detector}


def to_arrow(table: Table, rows: Sequence[Row]) -> pa.Table:
    """Rows as an Arrow table with the complete schema of `table`; a list that is None becomes null."""
    schema = table.schema
    arrays = []
    for column, kind in zip(table.columns, schema.types, strict=True):
        values = [row[column.name] for row in rows]
        if column.shape is None:
            arrays.append(pa.array(values, type=kind))
            continue
        present = [value for value in values if value is not None]
        offsets = np.zeros(len(values) + 1, np.int64)
        offsets[1:] = np.cumsum([0 if value is None else value.size for value in values])
        if offsets[-1] > np.iinfo(np.int32).max:
            raise ValueError(f"{table.name}.{column.name}: a row group of {offsets[-1]} values; use fewer clips in one")
        flat = pa.array(np.concatenate(present) if present else [], type=kind.value_type)
        mask = pa.array([value is None for value in values]) if len(present) < len(values) else None
        arrays.append(pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), flat, type=kind, mask=mask))
    return pa.Table.from_arrays(arrays, schema=schema)


def _index_row(values: Mapping[str, Any]) -> Row:
    clip_id = values.get("clip_id")
    if not isinstance(clip_id, str) or SAFE_NAME.fullmatch(clip_id) is None:
        raise ValueError(f"clip_id {clip_id!r} must be a plain file name of letters, digits, '_', '-' and '.'")
    unknown = sorted(set(values) - {column.name for column in INDEX.columns if column.name not in _PLACED})
    if unknown:
        raise ValueError(f"clip {clip_id}: the index table has no column {unknown[0]!r} to set")
    row: Row = {}
    for column in INDEX.columns:
        value = values.get(column.name)
        if column.name == "labels" and isinstance(value, Mapping):
            value = json.dumps(dict(value), ensure_ascii=False, sort_keys=True) if value else None
        row[column.name] = _scalar(column, value, f"clip {clip_id}: index {column.name}")
    if row["status"] not in STATUSES:
        raise ValueError(f"clip {clip_id}: status {row['status']!r} is none of {', '.join(STATUSES)}")
    if (row["status"] == "accepted") != (row["reason"] is None) or (row["reason"] or "internal") not in REASONS:
        raise ValueError(f"clip {clip_id}: status {row['status']} with reason {row['reason']!r} (see schemas.errors)")
    return row


def _track_row(table: Table, values: Mapping[str, Any]) -> Row:
    """Flat arrays and scalars of one clip, every shape checked."""
    clip_id, frames = values["clip_id"], values["num_frames"]
    row: Row = {}
    sizes: dict[str | int, int] = {"T": frames}
    for column in sorted(table.columns, key=lambda column: column.name != "valid"):  # the mask first, others need it
        value, name = values[column.name], f"clip {clip_id}: {table.name}.{column.name}"
        if column.shape is None:
            row[column.name] = _scalar(column, value, name)
            continue
        if value is None and column.optional:
            row[column.name] = None
            continue
        array = _check_shape(column, np.asarray(value), sizes, name)
        measured = array[row["valid"]] if column.floating and column.per_frame else array
        if column.floating and not np.isfinite(measured).all():
            raise ValueError(f"{name} is not finite where it is valid")
        if wrong := out_of_range(column, measured):
            raise ValueError(f"{name} holds {wrong}")
        row[column.name] = np.ascontiguousarray(array).reshape(-1)
    return row


def _scalar(column: Column, value: Any, name: str) -> Any:
    """A value of the column's Arrow type; NaN becomes None, because SQL engines count NaN but skip null."""
    try:
        scalar = pa.scalar(value, type=column.type).as_py()
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}={value!r} is no {column.type}: {error}") from error
    if isinstance(scalar, float) and not np.isfinite(scalar):
        scalar = None
    if scalar is None and not column.nullable:
        raise ValueError(f"{name} is missing")
    if scalar is not None and (wrong := scalar_out_of_range(column, scalar)):
        raise ValueError(f"{name} is {wrong}")
    return scalar


def _check_shape(column: Column, array: NDArray[Any], sizes: dict[str | int, int], name: str) -> NDArray[Any]:
    """The array in the column's type; `sizes` are those of lettered axes so far, and its own are added."""
    kind = column.type.value_type.to_pandas_dtype()
    shape = column.shape or ()
    expected = tuple(sizes.get(axis, axis) for axis in shape)
    fits = array.ndim == len(shape) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(expected, array.shape, strict=True)
    )
    if not fits or array.dtype.kind != np.dtype(kind).kind:
        raise ValueError(f"{name} has shape {array.shape} of {array.dtype}, expected {expected} of {np.dtype(kind)}")
    sizes.update((axis, size) for axis, size in zip(shape, array.shape, strict=True) if isinstance(axis, str))
    return array.astype(kind, copy=False)


def word_values(text: Transcription) -> list[Row]:
    """Values of all words in their order, as the table has them but without the clip; a score may be NaN."""
    absent: Row = {"start_us": None, "end_us": None, "score": None, "interpolated": False}
    rows = []
    for place, word in enumerate(text.spoken):
        known = vars(word) if isinstance(word, Interval) else {**absent, "label": word.label, "source": word.source}
        rows.append({**known, "position": place})
    return rows


def _word_rows(clip_id: str, duration_us: int, text: Transcription) -> list[Row]:
    if not all(0 <= word.after <= len(text.words) for word in text.untimed):
        raise ValueError(
            f"clip {clip_id}: a word without a time is after more words than the {len(text.words)} there are"
        )
    return [_interval_row(clip_id, duration_us, WORDS, values) for values in word_values(text)]


def _interval_row(clip_id: str, duration_us: int, table: Table, values: Row) -> Row:
    """A row of a long table; only words may have no times."""
    name = f"clip {clip_id}: {values['label']!r}"
    start_us, end_us = values["start_us"], values["end_us"]
    if start_us is not None and not 0 <= start_us <= end_us <= duration_us:
        raise ValueError(f"{name} at {start_us}..{end_us} us is outside 0..{duration_us}")
    if table is EVENTS and values["kind"] not in EVENT_KINDS:
        raise ValueError(f"{name} has the unknown kind {values['kind']!r}; known: {', '.join(EVENT_KINDS)}")
    row = {"clip_id": clip_id, **values}
    return {column.name: _scalar(column, row[column.name], f"{name} {column.name}") for column in table.columns}
