"""The records that travel between the rooms: frozen dataclasses over numpy arrays, without behaviour.

Units: microseconds, metres, radians, pixels of the displayed (rotation applied) source image. Pixels are continuous:
(0, 0) is the outer corner of the first pixel, (0.5, 0.5) its centre.
The source clock starts at the container's start time; a clip's clock starts at its first frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Source:
    """One video of the manifest, as the user wrote it."""

    uri: str
    row: int
    """1-based row of the manifest, for messages."""
    sha256: str | None = None
    start_us: int | None = None
    end_us: int | None = None
    speaker: str | None = None
    language: str | None = None
    transcript: str | None = None
    licence: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class VideoInfo:
    """What a container says about its first video and audio stream."""

    width: int
    """Displayed width in pixels, after rotation and sample aspect ratio."""
    height: int
    fps: Fraction
    """Nominal frame rate; the clock is the PTS, never index / fps."""
    duration_us: int
    rotation_deg: int
    """Clockwise rotation that is applied for display: 0, 90, 180 or 270."""
    video_start_us: int
    """First video PTS on the source clock."""
    audio_rate: int | None
    """Samples per second of the audio stream, None without one."""
    audio_start_us: int | None


@dataclass(frozen=True)
class Span:
    """A half-open span [start_us, end_us) of the source clock."""

    start_us: int
    end_us: int


@dataclass(frozen=True)
class Rejection:
    """A span of a source that is in no clip, and why."""

    span: Span
    reason: str
    message: str


@dataclass(frozen=True)
class FaceBox:
    """A detected face: left, top, width, height in source pixels, and the detector's score 0..1."""

    x: float
    y: float
    width: float
    height: float
    score: float


@dataclass(frozen=True)
class FaceTrack:
    """One face followed through a shot: boxes at sampled times, interpolated in between."""

    pts_us: Int64
    """(N,) source clock."""
    box_xywh: Float32
    """(N, 4) left, top, width, height in source pixels."""


@dataclass(frozen=True)
class Clip:
    """Span of one track with one speaking person: the unit of work, of a row, of a retry."""

    clip_id: str
    source_id: str
    span: Span
    """Source clock; starts at the first frame's PTS and ends after the last frame's duration."""
    track: FaceTrack


@dataclass(frozen=True)
class LandmarkTrack:
    """Detected 2D landmarks of one clip: L points of T frames."""

    pts_us: Int64
    """(T,) presentation time from the start of the clip."""
    face_xy: Float32
    """(T, L, 2) source pixels, NaN where not valid; L and the meaning of each point are those of the detector."""
    confidence: Float32
    """(T, L) 0..1, how far each point is to be trusted, NaN where not valid; all ones where it was not measured."""
    valid: Bool
    """(T,) false where no face was seen."""
    width: int
    height: int
    detector: str
    """Name and version of the detector."""
    blendshapes: Float32 | None = None
    """(T, 52) ARKit weights 0..1 in ARKit's order as the detector sees them, NaN where not valid; None without them."""


@dataclass(frozen=True)
class HeadTrack:
    """FLAME-layout head parameters of one clip, camera space after `global_pose` and `translation` (OpenCV axes)."""

    head_model: str
    """Name of the model; expression codes mean nothing without it."""
    model_sha256: str
    shape: Float32
    """(S,)"""
    expression: Float32
    """(T, E)"""
    global_pose: Float32
    """(T, 3) axis-angle, radians, model space to camera space."""
    neck_pose: Float32
    """(T, 3) axis-angle, radians."""
    jaw_pose: Float32
    """(T, 3) axis-angle, radians."""
    left_eye_pose: Float32
    """(T, 3) axis-angle, radians; the subject's left."""
    right_eye_pose: Float32
    """(T, 3) axis-angle, radians."""
    translation: Float32
    """(T, 3) metres, camera space."""
    focal_px: float
    principal_point: Float32
    """(2,) pixels."""
    valid: Bool
    """(T,)"""
    residual_px: Float32
    """(T,) mean landmark reprojection error in pixels; NaN where not valid."""
    nme: Float32
    """(T,) residual over the distance of the outer eye corners, a fraction; NaN where not valid."""
    held_out_nme: Float32 | None = None
    """(T,) the same of landmarks that the fit did not use; None where there was no fit."""
    uncertainty_mm: Float32 | None = None
    """(T,) RMS standard deviation of the face's points in the rest pose; None where there was no fit."""
    at_limit: Float32 | None = None
    """(T,) number of unknowns at a limit of the model; None where there was no fit."""


HEAD_ARRAYS = tuple(name for name, kind in HeadTrack.__annotations__.items() if kind in ("Float32", "Bool"))
"""Names of the arrays of a head track, in order."""


@dataclass(frozen=True)
class BodyLandmarks:
    """Detected body and hands of one clip: 33 points of the pose and 21 of each hand in T frames."""

    pts_us: Int64
    """(T,) presentation time from the start of the clip."""
    pose_xyc: Float32
    """(T, 33, 3) x, y in source pixels and confidence 0..1; points outside of the picture have confidence 0. NaN where
    not valid."""
    pose_world: Float32
    """(T, 33, 4) metres from the middle of the hips along the camera's axes (x right, y down, z away), and visibility;
    what the detector believes of depth. NaN where not valid."""
    left_hand_xyc: Float32
    """(T, 21, 3) the subject's left hand; NaN where it was not found."""
    right_hand_xyc: Float32
    """(T, 21, 3)"""
    left_hand_world: Float32
    """(T, 21, 3) metres from the middle of the hand along the camera's axes; NaN where it was not found."""
    right_hand_world: Float32
    """(T, 21, 3)"""
    valid: Bool
    """(T,) false where the person was not seen."""
    width: int
    height: int
    detector: str
    """Name and version of the detector."""


@dataclass(frozen=True)
class BodyTrack:
    """SMPL-X-layout body parameters of one clip, in the camera of its head."""

    body_model: str
    """Name of the model; betas mean nothing without it."""
    body_model_sha256: str
    betas: Float32
    """(S,)"""
    body_pose: Float32
    """(T, 63) axis-angle of joints 1-21 against their parents, radians; zero is the T pose."""
    left_hand_pose: Float32
    """(T, 45) axis-angle of joints 25-39; zero is the flat hand, whatever the model's mean hand."""
    right_hand_pose: Float32
    """(T, 45) axis-angle of joints 40-54."""
    body_global_pose: Float32
    """(T, 3) axis-angle, model space to camera space, about the pelvis."""
    body_translation: Float32
    """(T, 3) metres, camera space; added after the rotation about the pelvis, as in SMPL-X."""
    body_valid: Bool
    """(T,)"""
    body_joint_valid: Bool
    """(T, 55) whether a joint's rotation was observed; the others are where the priors put them."""
    body_residual_px: Float32
    """(T,) mean reprojection error of the observed points of the upper body in pixels; NaN where not valid."""
    focal_px: float
    principal_point: Float32
    """(2,) pixels."""


@dataclass(frozen=True)
class Interval:
    """A labelled interval on the clip clock: a word or a phone."""

    start_us: int
    end_us: int
    label: str
    score: float
    """0..1, the aligner's own confidence; NaN where it gives none."""
    interpolated: bool
    """True where the times were not measured but placed between neighbours."""
    source: str
    """Engine and model, or the importer."""


@dataclass(frozen=True)
class Event(Interval):
    """A labelled interval of another kind than speech."""

    kind: str
    """A key of `schemas.labels.EVENT_KINDS`."""


@dataclass(frozen=True)
class EmotionTrack:
    """Emotion of one clip; the last axis of probabilities is `schemas.labels.EMOTIONS`."""

    probabilities: Float32
    """(T, 9) in the second about each frame; rows sum to 1."""
    affect: Float32
    """(T, 3) intensity 0..1, valence -1..1, arousal -1..1."""
    clip: Float32
    """(9,) of the clip as a whole; sums to 1."""


@dataclass(frozen=True)
class Style:
    """Manner of one clip."""

    model: str
    """Name and version of the encoder; embeddings of different encoders cannot be compared."""
    embedding: Float32
    """(K,)"""


@dataclass(frozen=True)
class UntimedWord:
    """A word that is known to be said but could not be put on the clock: neither found nor with room to be placed."""

    label: str
    after: int
    """How many of the words with times come before it."""
    source: str
    """Engine and model, or the importer."""


@dataclass(frozen=True)
class Transcription:
    """Words and phones of one clip, in the order in which they are said."""

    words: tuple[Interval, ...]
    """Those with times."""
    phones: tuple[Interval, ...]
    untimed: tuple[UntimedWord, ...] = ()
    """Those without; `spoken` has both."""

    @property
    def spoken(self) -> tuple[Interval | UntimedWord, ...]:
        """All words in their order."""
        merged: list[Interval | UntimedWord] = []
        waiting, reached = sorted(self.untimed, key=lambda word: word.after), 0
        for place, word in enumerate(self.words):
            while reached < len(waiting) and waiting[reached].after <= place:
                merged.append(waiting[reached])
                reached += 1
            merged.append(word)
        return (*merged, *waiting[reached:])

    @property
    def text(self) -> str:
        """All words as they were written, with single spaces between."""
        return " ".join(word.label for word in self.spoken)
