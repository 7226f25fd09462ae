"""Every table of a data set in one place: its columns with shape, unit, space and rotation kind, as Arrow schemas.

A column of the body (`body_model`, `betas`, `body_pose`, `left_hand_pose`, `right_hand_pose`, `body_global_pose`,
`body_translation` in params; `pose_xyc`, `left_hand_xyc`, `right_hand_xyc` in landmarks) is not written yet; adding
them is a MINOR change of the schema version, so a reader must not mind columns that it does not know.

Per-frame tensors are flat `list<float32>`: the one layout that pyarrow, pandas, polars, DuckDB, HF datasets and Ray
all open as contiguous float32.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

SCHEMA_VERSION: Final = "1.0.0"
"""MAJOR: a column was renamed, removed or changed its meaning; MINOR: columns were added."""

STATUSES: Final = ("accepted", "rejected", "failed")

STRING: Final = pa.string()
FLOATS: Final = pa.list_(pa.field("element", pa.float32()))
INTS: Final = pa.list_(pa.field("element", pa.int64()))
BOOLS: Final = pa.list_(pa.field("element", pa.bool_()))

SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")
"""What a clip id or a shard name may be: a plain file name that can leave no folder."""


@dataclass(frozen=True)
class Column:
    """One column: Arrow type, meaning, and for tensors the logical shape of the flat list.

    `shape` names axes: "T" is `num_frames` of the row, other letters are the model's own sizes (S shape components,
    E expression components), numbers are fixed. `label` marks id and label columns, which are dictionary encoded.
    """

    name: str
    type: pa.DataType
    meaning: str
    shape: tuple[str | int, ...] | None = None
    unit: str | None = None
    space: str | None = None
    rotation: str | None = None
    nullable: bool = True
    label: bool = False

    @property
    def per_frame(self) -> bool:
        """Whether the first axis is time."""
        return self.shape is not None and self.shape[0] == "T"

    @property
    def floating(self) -> bool:
        """Whether the column or the elements of its list are floats."""
        leaf = self.type.value_type if pa.types.is_list(self.type) else self.type
        return bool(pa.types.is_floating(leaf))

    def field(self) -> pa.Field:
        """The Arrow field; shape (JSON), unit, space, rotation and meaning are its metadata."""
        metadata = {"meaning": self.meaning}
        if self.shape is not None:
            metadata["shape"] = json.dumps(self.shape)
        for key in ("unit", "space", "rotation"):
            value = getattr(self, key)
            if value is not None:
                metadata[key] = value
        encoded = {key.encode(): value.encode() for key, value in metadata.items()}
        return pa.field(self.name, self.type, nullable=self.nullable, metadata=encoded)


@dataclass(frozen=True)
class Table:
    """A named list of columns."""

    name: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The complete Arrow schema, with table name and schema version as metadata."""
        metadata = {b"talkset.table": self.name.encode(), b"talkset.schema_version": SCHEMA_VERSION.encode()}
        return pa.schema([column.field() for column in self.columns], metadata=metadata)

    @property
    def dictionary_columns(self) -> list[str]:
        """Columns worth a dictionary: ids and labels (on floats it makes files larger than raw)."""
        return [column.name for column in self.columns if column.label]

    @property
    def split_columns(self) -> list[str]:
        """Leaf paths of all float columns, for BYTE_STREAM_SPLIT."""
        floats = [column for column in self.columns if column.floating]
        return [f"{column.name}.list.element" if column.shape else column.name for column in floats]


def _label(name: str, meaning: str, nullable: bool = True) -> Column:
    return Column(name, STRING, meaning, nullable=nullable, label=True)


def _score(name: str, meaning: str, unit: str = "1") -> Column:
    return Column(name, pa.float64(), meaning, unit=unit)


def _axis_angle(name: str, meaning: str, space: str = "model") -> Column:
    return Column(name, FLOATS, meaning, ("T", 3), "rad", space, "axis_angle")


_CLIP_ID = _label("clip_id", "the clip; also the stem of its media files", nullable=False)
_NUM_FRAMES = Column("num_frames", pa.int32(), "number of frames T", unit="frames", nullable=False)
_PTS = Column("pts_us", INTS, "presentation time from the start of the clip", ("T",), "us")

INDEX: Final = Table(
    "index",
    (
        _CLIP_ID,
        _label("source_id", "the source video", nullable=False),
        Column("source_uri", STRING, "where the source video was read from", nullable=False),
        Column("source_sha256", STRING, "content hash of the source video, absent where it could not be read"),
        _label("speaker", "who speaks"),
        _label("split", "train, val or test"),
        Column("start_us", pa.int64(), "first frame on the source clock", unit="us"),
        Column("end_us", pa.int64(), "end of the last frame on the source clock", unit="us"),
        Column("num_frames", pa.int32(), "number of frames T", unit="frames"),
        Column("fps_num", pa.int32(), "nominal frame rate, numerator", unit="frames"),
        Column("fps_den", pa.int32(), "nominal frame rate, denominator", unit="s"),
        Column("width", pa.int32(), "width of the displayed source image", unit="px"),
        Column("height", pa.int32(), "height of the displayed source image", unit="px"),
        _label("shard", "file name of the part, the same in every sharded table; absent for rows without parameters"),
        Column("row", pa.int32(), "row inside the part"),
        _label("status", "accepted, rejected or failed", nullable=False),
        _label("reason", "reason class of a row that is not accepted"),
        _score("nme_mean", "mean over valid frames of residual / outer eye corner distance"),
        _score("nme_p95", "95th percentile of the same"),
        _score("valid_ratio", "fraction of frames in which the face was seen"),
        _score("speech_ratio", "fraction of the clip in which somebody speaks"),
        _score("sync_offset_ms", "offset of sound against lips", "ms"),
        _score("sync_confidence", "confidence of the sync offset"),
        _label("language", "language of the speech"),
        Column("transcript", STRING, "what is said"),
        _label("emotion", "emotion of the clip"),
        _score("emotion_confidence", "confidence of the emotion"),
        _score("valence", "unpleasant to pleasant"),
        _score("arousal", "calm to excited"),
        _label("review", "decision of a reviewer: accept or reject"),
        Column("track", pa.int32(), "number of the face track inside the source"),
        Column("has_audio", pa.bool_(), "whether the source carries sound"),
        _label("licence", "licence of the source video"),
        Column("labels", STRING, "further labels of the manifest, a JSON object"),
        Column("warnings", STRING, "what a reader should know about this clip"),
        _label("model_sha256", "content hash of the head model"),
    ),
)

PARAMS: Final = Table(
    "params",
    (
        _CLIP_ID,
        _NUM_FRAMES,
        _PTS,
        _label("head_model", "name of the head model; expression codes mean nothing without it"),
        Column("shape", FLOATS, "identity coefficients, one set for the clip", ("S",), "1", "model"),
        Column("expression", FLOATS, "expression coefficients", ("T", "E"), "1", "model"),
        _axis_angle("global_pose", "head rotation, model space to camera space", "camera"),
        _axis_angle("neck_pose", "neck rotation against its parent"),
        _axis_angle("jaw_pose", "jaw rotation against its parent"),
        _axis_angle("left_eye_pose", "rotation of the subject's left eye against its parent"),
        _axis_angle("right_eye_pose", "rotation of the subject's right eye against its parent"),
        Column("translation", FLOATS, "head translation", ("T", 3), "m", "camera"),
        Column("focal_px", pa.float32(), "focal length, one for the clip", unit="px", space="image"),
        Column("principal_point", FLOATS, "principal point x, y", (2,), "px", "image"),
        Column("valid", BOOLS, "false where nothing was seen and the values are not measured", ("T",)),
        Column("residual_px", FLOATS, "mean landmark reprojection error, NaN where not valid", ("T",), "px", "image"),
        Column("nme", FLOATS, "residual / outer eye corner distance, NaN where not valid", ("T",), "1", "image"),
    ),
)

LANDMARKS: Final = Table(
    "landmarks",
    (
        _CLIP_ID,
        _NUM_FRAMES,
        _PTS,
        Column(
            "face_xy",
            FLOATS,
            "MediaPipe face mesh with irises x, y; NaN where not valid",
            ("T", 478, 2),
            "px",
            "image",
        ),
        Column("valid", BOOLS, "false where no face was seen", ("T",)),
    ),
)

_SPAN = (
    Column("start_us", pa.int64(), "start from the start of the clip", unit="us", nullable=False),
    Column("end_us", pa.int64(), "end from the start of the clip", unit="us", nullable=False),
)
_INTERVAL = (
    _label("label", "the word, phone or event", nullable=False),
    Column("score", pa.float32(), "confidence 0..1, absent where the engine gives none", unit="1"),
    Column("interpolated", pa.bool_(), "true where the times were placed, not measured", nullable=False),
    _label("source", "engine and model, or the importer", nullable=False),
)

WORDS: Final = Table("words", (_CLIP_ID, *_SPAN, *_INTERVAL))
PHONES: Final = Table("phones", (_CLIP_ID, *_SPAN, *_INTERVAL))
EVENTS: Final = Table(
    "events",
    (
        _CLIP_ID,
        _label("kind", "emotion, gesture, semantic, style, blink or key_motion", nullable=False),
        *_SPAN,
        *_INTERVAL,
    ),
)

SHARDED: Final = (PARAMS, LANDMARKS)
"""Tables in parts; the same clip is at the same part name and row in each."""
LONG: Final = (WORDS, PHONES, EVENTS)
"""Tables in one file with many rows for a clip."""
TABLES: Final = {table.name: table for table in (INDEX, *SHARDED, *LONG)}
