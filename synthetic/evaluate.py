"""A fitted head track against the known truth: the figures that docs call "against known truth".

Vertices are compared in the canonical pose (head rotation and translation left out, expression, jaw and eyes left in),
each frame after the similarity transform that lays the fitted face region best on the true one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare, skin
from schemas.errors import UsageError
from schemas.types import HeadTrack, Int64
from synthetic.apertures import find_apertures, gap_m

Float64 = NDArray[np.float64]

SAME_TIME_US: Final = 2000
"""Frames are the same when their PTS differ by no more than this."""
MOVING: Final = 0.01
"""Standard deviation from which an expression of the truth counts as moving."""
BLOCK: Final = 64


@dataclass(frozen=True)
class Errors:
    """Errors over the frames that are valid in both tracks; NaN where there is nothing to measure."""

    frames: int
    """Frames compared."""
    valid_ratio: float
    """Of the truth's valid frames, how many the fit has and holds for valid."""
    vertex_mm: float
    """Mean distance of the face region's vertices after similarity alignment."""
    vertex_p95_mm: float
    jaw_deg: float
    """Mean angle between the jaw rotations."""
    gaze_deg: float
    """Mean angle between the gaze directions relative to the head, both eyes."""
    head_deg: float
    """Mean geodesic angle between the head rotations (global x neck)."""
    head_centred_deg: float
    """The same after the constant part of the difference is taken out: shape and pose share one."""
    lips_mm: float
    """Mean absolute error of the gap between the lips, after the alignment's scale."""
    lids_mm: float
    """Mean absolute error of the gap between the eyelids, both eyes."""
    expression_correlation: float
    """Mean Pearson correlation over the expressions that move in the truth; one that the fit keeps still counts 0."""
    jitter_mm: float
    """RMS second difference of the fit's face vertices in camera space, head motion included, mm per frame^2."""
    jitter_truth_mm: float
    jitter_canonical_mm: float
    """The same in the canonical pose, without head motion."""
    jitter_canonical_truth_mm: float


def compare(
    truth: HeadTrack,
    fit: HeadTrack,
    model: HeadModel,
    truth_pts_us: Int64 | None = None,
    fit_pts_us: Int64 | None = None,
) -> Errors:
    """Errors of a fit; frames are matched by PTS on one clock, or one to one when neither track's PTS is given.

    Args: truth and fit of T and T' frames with the same head model `model`; truth_pts_us (T,), fit_pts_us (T',)
    ascending. Raises UsageError for another model, PTS that do not belong, or tracks without a common valid frame.
    """
    for name, track in (("truth", truth), ("fit", fit)):
        if track.model_sha256 != model.sha256:
            raise UsageError(f"the {name} is of head model {track.head_model!r}, not {model.name!r}", "Use one model")
    left, right = _matches(truth, fit, truth_pts_us, fit_pts_us)
    both = truth.valid[left] & fit.valid[right]
    left, right = left[both], right[both]
    if not len(left):
        raise UsageError("truth and fit have no valid frame at the same time", "Check that both use one clock")
    face = model.regions["face"].astype(np.int64)
    slits = find_apertures(model)
    ids = np.unique(np.concatenate([face, slits.ids()]))
    true_rest, fit_rest = (
        track_vertices(model, track, rows, ids, False) for track, rows in ((truth, left), (fit, right))
    )
    on_face = np.searchsorted(ids, face)
    scale, rotation, offset = similarity(fit_rest[:, on_face], true_rest[:, on_face])
    aligned = scale[:, None, None] * fit_rest[:, on_face] @ rotation.transpose(0, 2, 1) + offset[:, None]
    distance = np.linalg.norm(aligned - true_rest[:, on_face], axis=2)

    def gap_error(slit: tuple[NDArray[np.int64], NDArray[np.int64]]) -> float:
        local = np.searchsorted(ids, slit[0]), np.searchsorted(ids, slit[1])
        return 1000 * float(np.abs(gap_m(true_rest, local) - scale * gap_m(fit_rest, local)).mean())

    head = _head(truth, left).inv() * _head(fit, right)
    seen = truth.valid.sum()
    posed = [track_vertices(model, track, rows, face, True) for track, rows in ((truth, left), (fit, right))]
    return Errors(
        frames=len(left),
        valid_ratio=float(len(left) / seen),
        vertex_mm=1000 * float(distance.mean()),
        vertex_p95_mm=1000 * float(np.percentile(distance, 95)),
        jaw_deg=_mean_angle(_rotation(truth.jaw_pose, left).inv() * _rotation(fit.jaw_pose, right)),
        gaze_deg=(
            _gaze_error(truth.left_eye_pose[left], fit.left_eye_pose[right])
            + _gaze_error(truth.right_eye_pose[left], fit.right_eye_pose[right])
        )
        / 2,
        head_deg=_mean_angle(head),
        head_centred_deg=_mean_angle(head * head.mean().inv()),
        lips_mm=gap_error(slits.lips),
        lids_mm=(gap_error(slits.left_eye) + gap_error(slits.right_eye)) / 2,
        expression_correlation=_correlation(truth.expression[left], fit.expression[right]),
        jitter_mm=_jitter(posed[1], left),
        jitter_truth_mm=_jitter(posed[0], left),
        jitter_canonical_mm=_jitter(fit_rest[:, on_face], left),
        jitter_canonical_truth_mm=_jitter(true_rest[:, on_face], left),
    )


def face_errors_mm(true_face: Float64, fit: HeadTrack, model: HeadModel) -> Float64:
    """(T, F) vertex distances in mm of a fit to a true face that no coefficients describe, after similarity alignment.

    Args: true_face (T, F, 3) metres, the model's face region in the canonical pose, as `compare` takes it from a
    track; fit of T frames. NaN in frames that the fit does not hold for valid.
    """
    ids = model.regions["face"].astype(np.int64)
    rows = np.flatnonzero(fit.valid)
    found = track_vertices(model, fit, rows, ids, False)
    scale, rotation, offset = similarity(found, true_face[rows])
    aligned = scale[:, None, None] * found @ rotation.transpose(0, 2, 1) + offset[:, None]
    errors = np.full(true_face.shape[:2], np.nan)
    errors[rows] = 1000 * np.linalg.norm(aligned - true_face[rows], axis=2)
    return errors


def _matches(
    truth: HeadTrack, fit: HeadTrack, truth_pts_us: Int64 | None, fit_pts_us: Int64 | None
) -> tuple[Int64, Int64]:
    """Rows of the truth and of the fit that show the same frame."""
    if (truth_pts_us is None) != (fit_pts_us is None):
        raise UsageError("the PTS of only one track were given", "Give both, or neither")
    if truth_pts_us is None or fit_pts_us is None:
        if len(truth.valid) != len(fit.valid):
            counts = f"{len(truth.valid)} and {len(fit.valid)}"
            raise UsageError(f"truth and fit have {counts} frames and no PTS", "Give the PTS of both")
        rows = np.arange(len(truth.valid), dtype=np.int64)
        return rows, rows
    for name, track, pts in (("truth", truth, truth_pts_us), ("fit", fit, fit_pts_us)):
        if pts.shape != track.valid.shape or (np.diff(pts) <= 0).any():
            raise UsageError(f"the PTS of the {name} do not grow, or are not one a frame", "Check the track")
    after = np.clip(np.searchsorted(truth_pts_us, fit_pts_us), 1, max(1, len(truth_pts_us) - 1))
    before = after - 1
    after = np.minimum(after, len(truth_pts_us) - 1)
    closer = np.abs(truth_pts_us[before] - fit_pts_us) <= np.abs(truth_pts_us[after] - fit_pts_us)
    nearest = np.where(closer, before, after)
    same = np.abs(truth_pts_us[nearest] - fit_pts_us) <= SAME_TIME_US
    return nearest[same].astype(np.int64), np.flatnonzero(same).astype(np.int64)


def track_vertices(model: HeadModel, track: HeadTrack, rows: Int64, ids: Int64, posed: bool) -> Float64:
    """(n, len(ids), 3) vertices `ids` in the frames `rows`, metres, float64: in camera space, or canonical ones."""
    sparse = prepare(model, ids, dtype=torch.float64)
    shape = torch.as_tensor(track.shape, dtype=torch.float64)
    result = []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        zero = torch.zeros(len(block), 3, dtype=torch.float64)
        expression, root, neck, jaw, left, right, move = (
            torch.as_tensor(array[block], dtype=torch.float64)
            for array in (
                track.expression,
                track.global_pose,
                track.neck_pose,
                track.jaw_pose,
                track.left_eye_pose,
                track.right_eye_pose,
                track.translation,
            )
        )
        if not posed:
            root = neck = move = zero
        result.append(skin(sparse, shape, expression, root, neck, jaw, left, right, move).numpy())
    return np.concatenate(result)


def similarity(source: Float64, target: Float64) -> tuple[Float64, Float64, Float64]:
    """Scale (T,), rotation (T, 3, 3) and offset (T, 3) that bring source (T, n, 3) nearest to target (T, n, 3).

    target ~ scale * source @ rotation^T + offset, least squares without reflection (Umeyama 1991).
    """
    mean_source, mean_target = source.mean(1), target.mean(1)
    from_mean, to_mean = source - mean_source[:, None], target - mean_target[:, None]
    u, values, vt = np.linalg.svd(to_mean.transpose(0, 2, 1) @ from_mean)
    sign = np.ones_like(values)
    sign[:, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = (u * sign[:, None]) @ vt
    scale = (values * sign).sum(1) / (from_mean**2).sum((1, 2))
    offset = mean_target - scale[:, None] * np.einsum("tij,tj->ti", rotation, mean_source)
    return scale, rotation, offset


def _rotation(pose: NDArray[np.float32], rows: Int64) -> Rotation:
    return Rotation.from_rotvec(pose[rows].astype(np.float64))


def _head(track: HeadTrack, rows: Int64) -> Rotation:
    return _rotation(track.global_pose, rows) * _rotation(track.neck_pose, rows)


def _mean_angle(rotation: Rotation) -> float:
    return float(np.degrees(rotation.magnitude()).mean())


def _gaze_error(truth: NDArray[np.float32], fit: NDArray[np.float32]) -> float:
    """Mean angle in degrees between the directions that two eye poses (n, 3) turn the z axis to."""
    first, second = (Rotation.from_rotvec(pose.astype(np.float64)).apply([0.0, 0.0, 1.0]) for pose in (truth, fit))
    across = np.linalg.norm(np.cross(first, second), axis=1)
    return float(np.degrees(np.arctan2(across, (first * second).sum(1))).mean())


def _correlation(truth: NDArray[np.float32], fit: NDArray[np.float32]) -> float:
    """Mean over moving expressions of the Pearson correlation of (n, E) codes."""
    moving = truth.std(0) > MOVING
    if not moving.any():
        return float("nan")
    first = truth[:, moving].astype(np.float64) - truth[:, moving].mean(0)
    second = fit[:, moving].astype(np.float64) - fit[:, moving].mean(0)
    power = np.sqrt((first**2).sum(0) * (second**2).sum(0))
    return float(np.where(power > 1e-9, (first * second).sum(0) / np.maximum(power, 1e-9), 0.0).mean())


def _jitter(vertices: Float64, rows: Int64) -> float:
    """RMS second difference in mm over triples of consecutive frames; NaN without one."""
    whole = (np.diff(rows)[:-1] == 1) & (np.diff(rows)[1:] == 1)
    second = (vertices[2:] - 2 * vertices[1:-1] + vertices[:-2])[whole]
    return 1000 * float(np.sqrt((second**2).sum(2).mean())) if len(second) else float("nan")
