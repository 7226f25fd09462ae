"""What is wrong with a fitted body: parts inside others, implausible poses, shaking, hands that nobody saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.body.articulation import Articulation, articulation_of, bounds_of, decompose, limited_joints
from reconstruct.body.fit import body_poses, placed_joints
from reconstruct.body.fit_problem import shoulder_width
from reconstruct.models.body_model import BodyModel, joint
from reconstruct.models.skinning import SkinningModel, prepare, skin_joints
from schemas.config import ReconstructConfig
from schemas.errors import TalksetError
from schemas.types import BodyLandmarks, BodyTrack

Float64 = NDArray[np.float64]
CLOCK_S: Final = 0.04
EVERY_FRAME: Final = 5
"""Penetration is looked for in every so many frames."""
LARGEST_SAMPLE: Final = 24
"""Most frames of a clip that are looked at for penetration."""
PROBES: Final = 200
"""Vertices of arms and hands that are tried."""
TRUNK, HEAD = (0, 3, 6, 9), (12, 15)
"""Joints of what they may be inside."""
DEEP_M: Final = 0.015
"""How far inside a vertex must be: sleeves and skin touch without harm."""
LIMIT_SLACK_RAD: Final = 1e-3


@dataclass(frozen=True)
class BodyQuality:
    """Scores of one clip's body."""

    residual: float
    """Median over frames of the reprojection error of the visible upper body, in shoulder widths."""
    penetration: float
    """Fraction of arm and hand vertices deep inside trunk or head, mean over frames."""
    implausible: float
    """RMS of the observed arms' and hands' distance from rest in standard deviations of the prior, mean over frames."""
    jitter: float
    """RMS second difference of the upper body's joints in shoulder widths, at 25 frames/s; NaN for a short clip."""
    left_hand_ratio: float
    """Fraction of frames in which the detector saw the left hand."""
    right_hand_ratio: float
    beyond_limits: int
    """Frames in which an elbow or a finger is outside of its limits."""


@dataclass(frozen=True)
class BodyChecks:
    """What the scores of all clips with one body model share."""

    articulation: Articulation
    joints: SkinningModel
    flesh: SkinningModel
    """The vertices that are tried and those of what they may be inside."""
    probes: Tensor
    """(n,) vertices of arms and hands among those of `flesh`."""
    solids: tuple[Tensor, ...]
    """(F, 3) triangles of the trunk and of the head, of vertices of `flesh`."""

    @classmethod
    def of(cls, model: BodyModel) -> BodyChecks:
        """Of a body model; takes about half a second."""
        arms = model.weights[:, [18, 19, 20, 21, *range(25, 55)]].sum(1)
        probes = np.flatnonzero(arms > 0.99)
        probes = probes[:: max(1, len(probes) // PROBES)]
        solids = []
        for joints in TRUNK, HEAD:
            own = model.weights[:, list(joints)].sum(1) > 0.5
            solids.append(model.faces[own[model.faces].all(1)].astype(np.int64))
        ids = np.unique(np.concatenate([probes, *(faces.ravel() for faces in solids)]))
        return cls(
            articulation_of(model),
            prepare(model, np.arange(1), dtype=torch.float64),
            prepare(model, ids),
            torch.as_tensor(np.searchsorted(ids, probes)),
            tuple(torch.as_tensor(np.searchsorted(ids, faces)) for faces in solids),
        )


def body_quality(checks: BodyChecks, landmarks: BodyLandmarks, track: BodyTrack) -> BodyQuality:
    """Measure a fitted body."""
    rows = np.flatnonzero(track.body_valid)
    joints = placed_joints(checks.joints, track)[rows]
    angles = limited_angles(checks.articulation, body_poses(track)[rows])
    trust = np.where(np.isfinite(landmarks.pose_xyc[..., 2]), landmarks.pose_xyc[..., 2], 0.0)
    width = shoulder_width(landmarks.pose_xyc.astype(np.float64), trust)
    error = track.body_residual_px[rows]
    error = error[np.isfinite(error)]
    return BodyQuality(
        residual=float(np.median(error)) / width if len(error) else float("nan"),
        penetration=penetration(checks, track, rows[:: max(EVERY_FRAME, len(rows) // LARGEST_SAMPLE)]),
        implausible=implausibility(checks.articulation, angles, track.body_joint_valid[rows]),
        jitter=jitter(joints, landmarks.pts_us[rows]),
        left_hand_ratio=float(np.isfinite(landmarks.left_hand_xyc[:, 0, 0]).mean()),
        right_hand_ratio=float(np.isfinite(landmarks.right_hand_xyc[:, 0, 0]).mean()),
        beyond_limits=int(angles_beyond(checks.articulation, angles).sum()),
    )


def judge_body(quality: BodyQuality, config: ReconstructConfig) -> None:
    """Raise TalksetError poor_body naming the first score that is beyond its limit."""
    hands = max(quality.left_hand_ratio, quality.right_hand_ratio)
    rules = (
        ("the error of the upper body in shoulder widths", quality.residual, "max_residual", config.max_residual, 1),
        ("the part of arms inside the trunk", quality.penetration, "max_penetration", config.max_penetration, 1),
        (
            "the pose's distance from rest in deviations",
            quality.implausible,
            "max_implausible",
            config.max_implausible,
            1,
        ),
        ("the shaking in shoulder widths", quality.jitter, "max_jitter", config.max_jitter, 1),
        ("the frames with a hand", hands, "min_hand_ratio", config.min_hand_ratio, -1),
        ("the number of frames beyond a joint's limits", float(quality.beyond_limits), "", 0.0, 1),
    )
    for what, value, name, limit, sign in rules:
        if np.isfinite(value) and sign * value > sign * limit:
            allowed = f", reconstruct.{name} is {limit:.3g}" if name else ", none is allowed"
            raise TalksetError("poor_body", f"{what}: {value:.3g}{allowed}")


def jitter(joints: Float64, pts_us: NDArray[np.int64]) -> float:
    """RMS second difference over 40 ms of shoulders, elbows and wrists (T, 55, 3), over the width of the shoulders."""
    if len(joints) < 3:
        return float("nan")
    names = ("shoulder", "elbow", "wrist")
    own = joints[:, [joint(f"{side}_{name}") for side in ("left", "right") for name in names]]
    width = float(np.median(np.linalg.norm(joints[:, 16] - joints[:, 17], axis=1)))
    steps = np.diff(pts_us) / 1e6
    before, after = steps[:-1, None, None], steps[1:, None, None]
    bend = 2 * ((own[2:] - own[1:-1]) / after - (own[1:-1] - own[:-2]) / before) / (before + after)
    whole = (before < 2.5 * np.median(steps)) & (after < 2.5 * np.median(steps))
    squared = ((bend * CLOCK_S**2) ** 2).sum(2)[whole[:, 0, 0]]
    return float(np.sqrt(squared.mean())) / width if len(squared) else float("nan")


def limited_angles(articulation: Articulation, poses: Float64) -> dict[str, Float64]:
    """Angles of the joints that have limits, of stored poses (T, 55, 3); see `articulation.decompose`."""
    return decompose(articulation, poses, limited_joints())


def implausibility(articulation: Articulation, limited: Mapping[str, Float64], observed: NDArray[np.bool_]) -> float:
    """RMS distance from rest of the hinges of observed elbows and fingers (`limited_angles`), in deviations."""
    total, count = 0.0, 0
    for name, angles in limited.items():
        own = [f for f in articulation.factors if f.joint == joint(name) and f.axis is not None]
        freedoms = [articulation.freedoms[factor.first] for factor in own]
        away = (angles[:, :-1] - [f.rest for f in freedoms]) / [f.spread for f in freedoms]
        seen = observed[:, joint(name)]
        total, count = total + float((away[seen] ** 2).sum()), count + away[seen].size
    return float(np.sqrt(total / count)) if count else 0.0


def beyond_limits(articulation: Articulation, poses: Float64) -> NDArray[np.bool_]:
    """(T,) frames in which an elbow or a finger of stored poses (T, 55, 3) is outside of its limits."""
    return angles_beyond(articulation, limited_angles(articulation, poses))


def angles_beyond(articulation: Articulation, limited: Mapping[str, Float64]) -> NDArray[np.bool_]:
    """The same of the angles that `limited_angles` gives."""
    outside = np.zeros(len(next(iter(limited.values()))), dtype=bool)
    for name, angles in limited.items():
        bounds = bounds_of(articulation, name)
        values = angles[:, :-1]
        outside |= ((values < bounds[:, 0] - LIMIT_SLACK_RAD) | (values > bounds[:, 1] + LIMIT_SLACK_RAD)).any(1)
        outside |= angles[:, -1] > LIMIT_SLACK_RAD
    return outside


def penetration(checks: BodyChecks, track: BodyTrack, rows: NDArray[np.int64]) -> float:
    """Fraction of arm and hand vertices that are deep inside trunk or head, mean over the frames `rows`.

    A vertex is inside where the winding number of trunk and head about it is above one half (Jacobson et al. 2013); the
    holes of that part at the shoulders are far from where hands go.
    """
    if not len(rows):
        return 0.0
    flesh = checks.flesh
    vertices = skin_joints(
        flesh,
        torch.as_tensor(track.betas),
        torch.zeros(len(rows), flesh.shapedirs.shape[1] - flesh.num_shape),
        torch.as_tensor(body_poses(track)[rows], dtype=torch.float32),
        torch.as_tensor(track.body_translation[rows]),
    )
    inside = 0
    for frame in vertices:
        for faces in checks.solids:
            corners = frame[faces]
            middle = corners.mean(1)
            points = frame[checks.probes]
            near = ((points > middle.amin(0)) & (points < middle.amax(0))).all(1)
            points = points[near]
            if len(points):
                deep = torch.cdist(points, middle).amin(1) > DEEP_M
                points = points[deep]
                inside += int((winding_number(points, corners) > 0.5).sum())
    return inside / (len(rows) * len(checks.probes))


def winding_number(points: Tensor, triangles: Tensor) -> Tensor:
    """(n,) solid angle of triangles (F, 3, 3) about points (n, 3) over 4 pi (van Oosterom and Strackee 1983)."""
    a, b, c = (triangles[None, :, corner] - points[:, None] for corner in range(3))
    la, lb, lc = a.norm(dim=2), b.norm(dim=2), c.norm(dim=2)
    triple = (a * torch.linalg.cross(b, c)).sum(2)
    below = la * lb * lc + (a * b).sum(2) * lc + (b * c).sum(2) * la + (c * a).sum(2) * lb
    return torch.atan2(triple, below).sum(1) / (2 * torch.pi)
