"""What can be said about a fitted head without knowing the truth: held-out points, agreement of two fits, jitter."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.segmentation.faces import FaceFinder, FaceSample
from pipelines.segmentation.tracker import follow_faces
from reconstruct.embedding import Embedding
from reconstruct.fit import fit_clip
from reconstruct.landmarks import make_detector
from reconstruct.landmarks.topology import topology_of
from reconstruct.models.head_model import HeadModel
from reconstruct.reprojection import landmark_jitter, reprojected
from schemas.config import FitConfig, LandmarkConfig, SegmentConfig
from schemas.errors import TalksetError, UsageError
from schemas.types import Bool, FaceTrack, HeadTrack, LandmarkTrack, Span

Float64 = NDArray[np.float64]
Picture = tuple[int, NDArray[np.uint8]]
"""PTS in microseconds and (H, W, 3) RGB."""

FOLDS: Final = 4
OTHER_CROP: Final = 1.2
"""Factor on the detector's crop for the second look of the noise floor."""


def follow(pictures: Sequence[Picture]) -> FaceTrack:
    """The most dominant face of some pictures (pts_us, (H, W, 3) RGB) of one shot.

    Raises TalksetError face_lost when no face is found.
    """
    segment = SegmentConfig()
    with FaceFinder(segment) as finder:
        samples: list[FaceSample] = finder.sample(pictures)
    tracks = follow_faces(samples, Span(pictures[0][0], pictures[-1][0] + 1), segment)
    if not tracks:
        raise TalksetError("face_lost", "no face is in the pictures", "Give pictures of a face")
    return tracks[0]


def look(pictures: Sequence[Picture], face: FaceTrack, config: LandmarkConfig) -> LandmarkTrack:
    """Landmarks of a followed face by one detector; raises UsageError for an unknown one."""
    height, width = pictures[0][1].shape[:2]
    with make_detector(config) as detector:
        return detector.detect(pictures, face, width, height)


def second_look(pictures: Sequence[Picture], face: FaceTrack, config: LandmarkConfig) -> LandmarkTrack:
    """Landmarks by the same detector in the mirrored pictures and on a wider crop, in the pixels of the pictures.

    What they differ by from `look` is noise of the detector, which no fit can remove. The crop alone shows little of
    it: MediaPipe finds its own, tighter crop inside.
    """
    width = pictures[0][1].shape[1]
    boxes = face.box_xywh.copy()
    boxes[:, 0] = width - boxes[:, 0] - boxes[:, 2]
    mirrored = [(pts_us, np.ascontiguousarray(rgb[:, ::-1])) for pts_us, rgb in pictures]
    wide = dataclasses.replace(config, crop_scale=OTHER_CROP * config.crop_scale)
    seen = look(mirrored, dataclasses.replace(face, box_xywh=boxes), wide)
    order = topology_of(seen.detector).mirror
    points = seen.face_xy[:, order].copy()
    points[..., 0] = width - points[..., 0]
    return dataclasses.replace(seen, face_xy=points, confidence=seen.confidence[:, order], blendshapes=None)


def scale_px(track: LandmarkTrack) -> Float64:
    """(T,) distance of the outer eye corners in pixels, as NME has it."""
    points = topology_of(track.detector)
    between = track.face_xy[:, points.right_eye_outer] - track.face_xy[:, points.left_eye_outer]
    return np.asarray(np.linalg.norm(between, axis=1), dtype=np.float64)


def normalised_errors(model: HeadModel, embedding: Embedding, head: HeadTrack, track: LandmarkTrack) -> Float64:
    """(T, L) distance of reprojected and detected landmarks over that of the outer eye corners."""
    distance = np.linalg.norm(reprojected(model, embedding, head) - track.face_xy, axis=2)
    return np.asarray(distance / scale_px(track)[:, None])


def every_nth(count: int, folds: int) -> list[Bool]:
    """Masks (L,) of points to leave out: every `folds`-th, each point in one fold."""
    return [np.arange(count) % folds == fold for fold in range(folds)]


def random_halves(count: int, seed: int = 0) -> list[Bool]:
    """Two masks (L,) that leave out complementary random halves."""
    half = np.random.default_rng(seed).permutation(count) < count // 2
    return [half, ~half]


def held_out(
    model: HeadModel, embedding: Embedding, track: LandmarkTrack, config: FitConfig, folds: Sequence[Bool]
) -> float:
    """Mean normalised error over face points, each taken from the fit that did not use it.

    Left-out points are as if they were not embedded; only the eye corners still give the scale. Points in no fold are
    not measured. Raises UsageError without folds, and as `fit_clip` does.
    """
    if not folds:
        raise UsageError("no points are left out", "Give at least one fold")
    face = np.zeros(len(embedding.vertices), dtype=bool)
    face[topology_of(track.detector).face] = True
    total, count = 0.0, 0
    for left_out in folds:
        partial = dataclasses.replace(embedding, samples=np.where(left_out, 0, embedding.samples).astype(np.int32))
        head = fit_clip(model, partial, track, config)
        errors = normalised_errors(model, embedding, head, track)[np.flatnonzero(head.valid)][:, left_out & face]
        total, count = total + float(errors.sum()), count + errors.size
    return total / max(count, 1)


def fitted_and_detected_jitter(
    model: HeadModel, embedding: Embedding, head: HeadTrack, track: LandmarkTrack
) -> tuple[float, float]:
    """`landmark_jitter` of the reprojected fit and of the detector, over the face points."""
    face = topology_of(track.detector).face
    scale = scale_px(track)
    fitted = landmark_jitter(reprojected(model, embedding, head)[:, face], scale, head.valid)
    return fitted, landmark_jitter(track.face_xy[:, face].astype(np.float64), scale, track.valid)
