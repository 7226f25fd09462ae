"""Every table of a data set in one place: its columns with shape, unit, space and rotation kind, as Arrow schemas.

Columns of the body (`body_model`, `betas`, `body_pose` ... in params; `pose_xyc`, `left_hand_xyc`, `right_hand_xyc` in
landmarks) are null where no body was asked for. Adding columns is a MINOR change of the schema version, so a reader
must not mind columns that it does not know.

Per-frame tensors are flat `list<float32>`: the one layout that pyarrow, pandas, polars, DuckDB, HF datasets and Ray
all open as contiguous float32.

To add a column: append it to its table with `since` the next MINOR version, raise `SCHEMA_VERSION`, and tell
`talkset.versions.rewrite` how to fill it where an older data set can know it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from schemas.labels import DESCRIPTORS, EMOTIONS, EVENT_KINDS
from schemas.quality import MEASURES, Measure

SCHEMA_VERSION: Final = "1.5.0"
"""MAJOR: a column was renamed, removed or changed its meaning; MINOR: columns were added; PATCH: descriptions."""

SCHEMA_HISTORY: Final = {
    "1.0.0": "first version",
    "1.1.0": "`index.head_model`; list elements are never null; ranges in the field metadata; quantiles in stats.json;"
    " users' columns in columns/",
    "1.2.0": "`held_out_nme`, `uncertainty_mm` and `at_limit` in params; `confidence`, `blendshapes` and `detector` in"
    " landmarks, and with it `face_xy` of any number of points (those of MediaPipe are 478 as before);"
    " `held_out_nme`, `uncertainty_mm`, `jitter_px`, `detector_jitter_px`, `psnr_db` and `detector` in the index",
    "1.3.0": "`transcript_mismatch`, `words_per_minute`, `words_offset_ms`, `words_outside_speech`,"
    " `speech_without_words` and `word_flags` in the index",
    "1.4.0": "who speaks, sync, quality (mean and worst) and `duplicate_group` in the index; `fingerprint` in"
    " landmarks; body and hands in params, landmarks and index",
    "1.5.0": "emotion of every frame and of the clip, style embedding and descriptors, emotions that the source gives;"
    " more kinds of events; rows of `words` without times, and their `position`",
}
"""What each version of the schema brought."""

STATUSES: Final = ("accepted", "rejected", "failed")

MAX_COEFFICIENT: Final = 50.0
"""Identity and expression coefficients beyond this are no head: they have about unit variance."""

STRING: Final = pa.string()


def list_of(element: pa.DataType) -> pa.DataType:
    """A flat list whose elements are never null: a quarter faster to read than one whose elements may be."""
    return pa.list_(pa.field("element", element, nullable=False))


FLOATS: Final = list_of(pa.float32())
INTS: Final = list_of(pa.int64())
BOOLS: Final = list_of(pa.bool_())

LANDMARK_AXIS: Final = "L"
"""The axis whose size is the detector's; that of S and E is the head model's."""

SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")
"""What a clip id or a shard name may be: a plain file name that can leave no folder."""


@dataclass(frozen=True)
class Column:
    """One column: Arrow type, meaning, and for tensors the logical shape of the flat list.

    `shape` names axes: "T" is `num_frames` of the row, other letters are sizes of the model (S shape components, E
    expression components) or of the detector (L landmarks), numbers are fixed. `label` marks id and label columns,
    which are dictionary encoded.
    `low` and `high` bound every present, valid value, both included; of an axis-angle column they bound the angle.
    `since` is the schema version that brought the column. A column of a sharded table has a value in every row unless
    it is `optional`: it came later, or not every clip has it.
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
    low: float | None = None
    high: float | None = None
    since: str = "1.0.0"
    optional: bool = False

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
        """The Arrow field; shape (JSON), unit, space, rotation, range (JSON) and meaning are its metadata."""
        metadata = {"meaning": self.meaning}
        if self.shape is not None:
            metadata["shape"] = json.dumps(self.shape)
        for key in ("unit", "space", "rotation"):
            value = getattr(self, key)
            if value is not None:
                metadata[key] = value
        if self.low is not None or self.high is not None:
            metadata["range"] = json.dumps([self.low, self.high])
        encoded = {key.encode(): value.encode() for key, value in metadata.items()}
        return pa.field(self.name, self.type, nullable=self.nullable, metadata=encoded)

    @classmethod
    def from_field(cls, field: pa.Field) -> Column:
        """The column that a field of a stored table describes."""
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        low, high = json.loads(metadata.get("range", "[null, null]"))
        return cls(
            field.name,
            field.type,
            metadata.get("meaning", ""),
            tuple(json.loads(metadata["shape"])) if "shape" in metadata else None,
            metadata.get("unit"),
            metadata.get("space"),
            metadata.get("rotation"),
            field.nullable,
            low=low,
            high=high,
        )


@dataclass(frozen=True)
class Table:
    """A named list of columns."""

    name: str
    columns: tuple[Column, ...]
    version: str = SCHEMA_VERSION

    @property
    def schema(self) -> pa.Schema:
        """The complete Arrow schema, with table name and schema version as metadata."""
        metadata = {b"talkset.table": self.name.encode(), b"talkset.schema_version": self.version.encode()}
        return pa.schema([column.field() for column in self.columns], metadata=metadata)

    def at(self, version: str) -> Table:
        """The table as an older schema version of the same MAJOR had it."""
        known = [column for column in self.columns if version_key(column.since) <= version_key(version)]
        if version_key(version) < version_key("1.1.0"):  # elements of lists could be null, though none was
            known = [
                dataclasses.replace(column, type=pa.list_(pa.field("element", column.type.value_type)))
                if column.shape is not None
                else column
                for column in known
            ]
        if version_key(version) < version_key("1.2.0"):  # MediaPipe was the only detector
            known = [
                dataclasses.replace(column, shape=("T", 478, 2)) if column.name == "face_xy" else column
                for column in known
            ]
        if version_key(version) < version_key("1.5.0"):  # words without times were left out
            known = [
                dataclasses.replace(column, nullable=False)
                if self.name == "words" and column.name in ("start_us", "end_us")
                else column
                for column in known
            ]
        return dataclasses.replace(self, columns=tuple(known), version=version)

    @property
    def dictionary_columns(self) -> list[str]:
        """Columns worth a dictionary: ids and labels (on floats it makes files larger than raw)."""
        return [column.name for column in self.columns if column.label]

    @property
    def split_columns(self) -> list[str]:
        """Leaf paths of all float columns, for BYTE_STREAM_SPLIT."""
        floats = [column for column in self.columns if column.floating]
        return [f"{column.name}.list.element" if column.shape else column.name for column in floats]


def version_key(version: str) -> tuple[int, int, int]:
    """The three numbers of a version, to compare. Raises ValueError for other text."""
    match = re.fullmatch(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", version)
    if match is None:
        raise ValueError(f"{version!r} is no version of the form MAJOR.MINOR.PATCH")
    return int(match[1]), int(match[2]), int(match[3])


def _label(name: str, meaning: str, nullable: bool = True, since: str = "1.0.0") -> Column:
    return Column(name, STRING, meaning, nullable=nullable, label=True, since=since)


def _score(
    name: str,
    meaning: str,
    unit: str = "1",
    low: float | None = None,
    high: float | None = None,
    since: str = "1.0.0",
) -> Column:
    return Column(name, pa.float64(), meaning, unit=unit, low=low, high=high, since=since)


def _number(name: str, meaning: str, unit: str, low: int = 1, since: str = "1.0.0") -> Column:
    return Column(name, pa.int32(), meaning, unit=unit, low=low, since=since)


def _measured(measure: Measure) -> tuple[Column, Column]:
    """Mean and worst value of a measure of quality."""
    worst = f"worst value of {measure.name} in the clip"
    return tuple(
        _score(name, meaning, measure.unit, measure.low, measure.high, "1.4.0")
        for name, meaning in ((measure.name, measure.meaning), (measure.worst, worst))
    )  # type: ignore[return-value]


def _axis_angle(name: str, meaning: str, space: str = "model", high: float = math.pi) -> Column:
    return Column(name, FLOATS, meaning, ("T", 3), "rad", space, "axis_angle", low=0.0, high=high)


def _coefficients(name: str, meaning: str, shape: tuple[str | int, ...]) -> Column:
    return Column(name, FLOATS, meaning, shape, "1", "model", low=-MAX_COEFFICIENT, high=MAX_COEFFICIENT)


def _diagnostic(name: str, meaning: str, unit: str, space: str | None = None) -> Column:
    return Column(name, FLOATS, meaning, ("T",), unit, space, low=0, since="1.2.0", optional=True)


_CLIP_ID = _label("clip_id", "the clip; also the stem of its media files", nullable=False)
_NUM_FRAMES = Column("num_frames", pa.int32(), "number of frames T", unit="frames", nullable=False, low=1)
_PTS = Column("pts_us", INTS, "presentation time from the start of the clip", ("T",), "us", low=0)

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
        _number("num_frames", "number of frames T", "frames", low=0),
        _number("fps_num", "nominal frame rate, numerator", "frames"),
        _number("fps_den", "nominal frame rate, denominator", "s"),
        _number("width", "width of the displayed source image", "px"),
        _number("height", "height of the displayed source image", "px"),
        _label("shard", "file name of the part, the same in every sharded table; absent for rows without parameters"),
        _number("row", "row inside the part", "1", low=0),
        _label("status", "accepted, rejected or failed", nullable=False),
        _label("reason", "reason class of a row that is not accepted"),
        _score("nme_mean", "mean over valid frames of residual / outer eye corner distance", low=0),
        _score("nme_p95", "95th percentile of the same", low=0),
        _score("valid_ratio", "fraction of frames in which the face was seen", low=0, high=1),
        _score("speech_ratio", "fraction of the clip in which somebody speaks", low=0, high=1),
        _score("sync_offset_ms", "offset of sound against lips", "ms"),
        _score("sync_confidence", "confidence of the sync offset"),
        _label("language", "language of the speech"),
        Column("transcript", STRING, "what is said"),
        _label("emotion", "emotion of the clip"),
        _score("emotion_confidence", "confidence of the emotion", low=0, high=1),
        _score("valence", "unpleasant to pleasant", low=-1, high=1),
        _score("arousal", "calm to excited", low=-1, high=1),
        _label("review", "decision of a reviewer: accept or reject"),
        _number("track", "number of the face track inside the source", "1", low=0),
        Column("has_audio", pa.bool_(), "whether the source carries sound"),
        _label("licence", "licence of the source video"),
        Column("labels", STRING, "further labels of the manifest, a JSON object"),
        Column("warnings", STRING, "what a reader should know about this clip"),
        _label("model_sha256", "content hash of the head model"),
        _label("head_model", "name of the head model", since="1.1.0"),
        _score(
            "held_out_nme",
            "mean over valid frames of the error of landmarks that the fit did not use / outer eye corner distance",
            low=0,
            since="1.2.0",
        ),
        _score(
            "uncertainty_mm",
            "mean over valid frames of the standard deviation of the face's points that landmarks and priors leave",
            "mm",
            low=0,
            since="1.2.0",
        ),
        _score(
            "jitter_px",
            "RMS second difference over frames of the fit's landmarks in the picture, its real motion included",
            "px",
            low=0,
            since="1.2.0",
        ),
        _score("detector_jitter_px", "the same of the detected landmarks", "px", low=0, since="1.2.0"),
        _score(
            "psnr_db",
            "mean over valid frames of the agreement of the face's pixels with the clip's own texture; absent without"
            " photometric refinement",
            "dB",
            since="1.2.0",
        ),
        _label("detector", "name of the landmark detector; absent in older rows: MediaPipe", since="1.2.0"),
        _score(
            "transcript_mismatch",
            "how much better any phones fit the sound of the source's words than those of the transcript",
            "nats per 10 ms",
            since="1.3.0",
        ),
        _score("words_per_minute", "in the source, long pauses left out", "1/min", low=0, since="1.3.0"),
        _score("words_offset_ms", "how much later than the voice the source's words are", "ms", since="1.3.0"),
        _score(
            "words_outside_speech",
            "fraction of the source's words that stand where nobody speaks",
            low=0,
            high=1,
            since="1.3.0",
        ),
        _score(
            "speech_without_words",
            "fraction of the source's speech that no word covers",
            low=0,
            high=1,
            since="1.3.0",
        ),
        _label("word_flags", "what is suspicious about the source's words, joined by spaces", since="1.3.0"),
        _score(
            "speaker_score",
            "mean log odds, over the clip's speech, that the voice is that of the face; absent where nothing was heard",
            "nat",
            since="1.4.0",
        ),
        _score("speaker_score_min", "the least of the same in a window of 1.5 s", "nat", since="1.4.0"),
        _score(
            "speaker_margin",
            "how far the mean log odds are above those of the next face; absent where no other face is seen",
            "nat",
            since="1.4.0",
        ),
        _number("num_faces", "most faces of the least size seen at once", "1", low=0, since="1.4.0"),
        _score("single_face_ratio", "fraction of the frames with one such face", low=0, high=1, since="1.4.0"),
        _score("sync_applied_ms", "by how much earlier the sound was moved to the lips", "ms", since="1.4.0"),
        _score("sync_offset_after_ms", "offset of sound against lips, measured again after that", "ms", since="1.4.0"),
        *(column for measure in MEASURES for column in _measured(measure)),
        _score("body_residual", "median error of the upper body's landmarks / shoulder width", low=0, since="1.4.0"),
        _score("body_penetration", "mean part of arms and hands inside trunk or head", low=0, high=1, since="1.4.0"),
        _score("body_implausible", "RMS distance of observed hinges from rest, in deviations", low=0, since="1.4.0"),
        _score("body_jitter", "RMS second difference of the arms over 40 ms / shoulder width", low=0, since="1.4.0"),
        _score("left_hand_ratio", "fraction of frames in which the left hand was seen", low=0, high=1, since="1.4.0"),
        _score("right_hand_ratio", "fraction of frames in which the right hand was seen", low=0, high=1, since="1.4.0"),
        _label(
            "duplicate_group",
            "the first clip of those that show or sound the same; absent for a clip without duplicates",
            since="1.4.0",
        ),
        _score("emotion_intensity", "how strong the emotion is", low=0, high=1, since="1.5.0"),
        _label("emotion_source", "the modalities and models behind the emotion", since="1.5.0"),
        _label("emotion_given", "emotion that the source's labels name, one of our classes", since="1.5.0"),
        _score("emotion_given_intensity", "how strong, where the source's labels tell", low=0, high=1, since="1.5.0"),
        *(_score(each.column, each.meaning, each.unit, each.low, each.high, "1.5.0") for each in DESCRIPTORS),
    ),
)


def _joints(name: str, meaning: str, values: int, space: str = "model", high: float = math.pi) -> Column:
    """Axis-angle of the joints of a body."""
    column = _axis_angle(name, meaning, space, high)
    return dataclasses.replace(column, shape=("T", values), since="1.4.0", optional=True)


_BODY: Final = (
    dataclasses.replace(
        _label("body_model", "name of the body model, in SMPL-X's layout; absent without a body", since="1.4.0"),
        optional=True,
    ),
    dataclasses.replace(
        _coefficients("betas", "identity coefficients of the body, one set for the clip", ("B",)),
        since="1.4.0",
        optional=True,
    ),
    _joints("body_pose", "rotations of joints 1-21 of SMPL-X against their parents; zero is the T pose", 63),
    _joints("left_hand_pose", "rotations of the left hand's 15 joints; zero is the flat hand, no mean is added", 45),
    _joints("right_hand_pose", "the same of the right hand", 45),
    _joints("body_global_pose", "rotation about the pelvis, model space to camera space", 3, "camera", 8 * math.pi),
    Column(
        "body_translation",
        FLOATS,
        "translation of the body in the camera of the head, added after the rotation about the pelvis",
        ("T", 3),
        "m",
        "camera",
        low=-1000,
        high=1000,
        since="1.4.0",
        optional=True,
    ),
    Column(
        "body_joint_valid",
        BOOLS,
        "whether the rotation of each of SMPL-X's joints was observed; the others are where priors put them",
        ("T", 55),
        since="1.4.0",
        optional=True,
    ),
)


def _likely(name: str, meaning: str, shape: tuple[str | int, ...], low: float = 0.0) -> Column:
    """Probabilities or scores of a label."""
    return Column(name, FLOATS, meaning, shape, "1", low=low, high=1.0, since="1.5.0", optional=True)


_LABELS: Final = (
    _likely(
        "emotion_probabilities",
        f"probabilities of {', '.join(EMOTIONS)} in the second about each frame; found five times a second and"
        " interpolated",
        ("T", len(EMOTIONS)),
    ),
    _likely("affect", "intensity of the emotion (0 to 1), valence and arousal (-1 to 1), likewise", ("T", 3), low=-1.0),
    _likely("clip_emotion", "the same probabilities for the clip as a whole", (len(EMOTIONS),)),
    Column(
        "style_embedding",
        FLOATS,
        "manner of the clip: near for clips of one speaker and manner; comparable within one `style_model`",
        ("K",),
        "1",
        since="1.5.0",
        optional=True,
    ),
    dataclasses.replace(_label("style_model", "name and version of the style encoder", since="1.5.0"), optional=True),
)

PARAMS: Final = Table(
    "params",
    (
        _CLIP_ID,
        _NUM_FRAMES,
        _PTS,
        _label("head_model", "name of the head model; expression codes mean nothing without it"),
        _coefficients(
            "shape",
            "identity coefficients, one set for the clip or, where asked for, for all clips of a speaker",
            ("S",),
        ),
        _coefficients("expression", "expression coefficients", ("T", "E")),
        _axis_angle("global_pose", "head rotation, model space to camera space, unwrapped", "camera", 8 * math.pi),
        _axis_angle("neck_pose", "neck rotation against its parent"),
        _axis_angle("jaw_pose", "jaw rotation against its parent"),
        _axis_angle("left_eye_pose", "rotation of the subject's left eye against its parent"),
        _axis_angle("right_eye_pose", "rotation of the subject's right eye against its parent"),
        Column("translation", FLOATS, "head translation", ("T", 3), "m", "camera", low=-1000, high=1000),
        Column("focal_px", pa.float32(), "focal length, one for the clip", unit="px", space="image", low=1),
        Column("principal_point", FLOATS, "principal point x, y", (2,), "px", "image"),
        Column("valid", BOOLS, "false where nothing was seen and the values are not measured", ("T",)),
        Column("residual_px", FLOATS, "mean landmark reprojection error", ("T",), "px", "image", low=0),
        Column("nme", FLOATS, "residual / outer eye corner distance", ("T",), "1", "image", low=0),
        _diagnostic("held_out_nme", "the same of landmarks that the fit did not use", "1", "image"),
        _diagnostic("uncertainty_mm", "RMS standard deviation of the face's points in the rest pose", "mm", "model"),
        _diagnostic("at_limit", "number of expressions, jaw and eye angles at a limit of the model", "1"),
        *_BODY,
        *_LABELS,
    ),
)


def _points(name: str, meaning: str, count: int) -> Column:
    """Points with confidence; zeros where nothing was found though the face was."""
    return Column(name, FLOATS, meaning, ("T", count, 3), "px", "image", since="1.4.0", optional=True)


LANDMARKS: Final = Table(
    "landmarks",
    (
        _CLIP_ID,
        _NUM_FRAMES,
        _PTS,
        Column(
            "face_xy",
            FLOATS,
            "landmarks x, y; NaN where not valid; the detector says what each is: MediaPipe's are its face mesh with"
            " irises",
            ("T", "L", 2),
            "px",
            "image",
        ),
        Column("valid", BOOLS, "false where no face was seen", ("T",)),
        Column(
            "confidence",
            FLOATS,
            "how far each landmark is to be trusted, all ones where it was not measured; NaN where not valid",
            ("T", "L"),
            "1",
            "image",
            low=0,
            high=1,
            since="1.2.0",
            optional=True,
        ),
        Column(
            "blendshapes",
            FLOATS,
            "ARKit weights in ARKit's order as the detector sees them; NaN where not valid",
            ("T", 52),
            "1",
            "image",
            low=0,
            high=1,
            since="1.2.0",
            optional=True,
        ),
        dataclasses.replace(
            _label("detector", "name and version of the detector; absent in older rows: MediaPipe", since="1.2.0"),
            optional=True,
        ),
        Column(
            "fingerprint",
            STRING,
            "codes of sound and of the face's motion by which copies are found; base64, see schemas.fingerprint",
            since="1.4.0",
            optional=True,
        ),
        _points("pose_xyc", "MediaPipe's 33 points of the pose: x, y in pixels and confidence", 33),
        _points("left_hand_xyc", "21 points of the subject's left hand; all 0 where it was not found", 21),
        _points("right_hand_xyc", "the same of the right hand", 21),
        dataclasses.replace(
            _label("body_detector", "name and version of the detector of body and hands", since="1.4.0"), optional=True
        ),
    ),
)

_SPAN = (
    Column("start_us", pa.int64(), "start from the start of the clip", unit="us", nullable=False, low=0),
    Column("end_us", pa.int64(), "end from the start of the clip", unit="us", nullable=False),
)
_INTERVAL = (
    _label("label", "the word, phone or event", nullable=False),
    Column("score", pa.float32(), "confidence, absent where the engine gives none", unit="1", low=0, high=1),
    Column("interpolated", pa.bool_(), "true where the times were placed, not measured", nullable=False),
    _label("source", "engine and model, or the importer", nullable=False),
)

WORDS: Final = Table(
    "words",
    (
        _CLIP_ID,
        *(
            dataclasses.replace(column, nullable=True, meaning=f"{column.meaning}; both absent where it is not known")
            for column in _SPAN
        ),
        *_INTERVAL,
        Column(
            "position",
            pa.int32(),
            "place of the word in what is said in the clip, counted from 0",
            unit="1",
            low=0,
            since="1.5.0",
        ),
    ),
)
PHONES: Final = Table("phones", (_CLIP_ID, *_SPAN, *_INTERVAL))
EVENTS: Final = Table(
    "events",
    (
        _CLIP_ID,
        _label("kind", f"one of {', '.join(EVENT_KINDS)}", nullable=False),
        *_SPAN,
        *_INTERVAL,
    ),
)

SHARDED: Final = (PARAMS, LANDMARKS)
"""Tables in parts; the same clip is at the same part name and row in each."""
LONG: Final = (WORDS, PHONES, EVENTS)
"""Tables in one file with many rows for a clip."""
TABLES: Final = {table.name: table for table in (INDEX, *SHARDED, *LONG)}
