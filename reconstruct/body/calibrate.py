"""Measures where a detector's body landmarks lie on a model: render it in many poses, detect, and place each landmark.

A landmark is fixed to the joint that carries it (`reconstruct.body.points`); its place there is the one that reprojects
best onto the detections of all pictures. The result is cached by the model's content and the detector's name.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct.body.articulation import SIDES, articulation_of
from reconstruct.body.detect import BodyDetector, detector_name
from reconstruct.body.gestures import random_gesture
from reconstruct.body.kinematics import Posed, Skeleton, pose, skeleton_of
from reconstruct.body.picture import BodyLook, render_body
from reconstruct.body.points import COUNT, LEFT_HAND, POSE, POSE_MIRROR, RIGHT_HAND, BodyPoints, points_of
from reconstruct.models.body_model import BodyModel, joint
from reconstruct.models.head_model import write_npz
from schemas.config import ReconstructConfig
from schemas.errors import TalksetError
from schemas.types import BodyLandmarks

Float64 = NDArray[np.float64]
LOGGER = logging.getLogger(__name__)

VERSION: Final = 1
"""Raise when the measured places change for the same model and detector."""
NUM_VIEWS: Final = 60
LEAST_VIEWS: Final = 6
"""Landmarks that are seen in fewer pictures stay at their joint."""
PULL: Final = 2.0
"""How many pictures' worth of belief the joint itself has."""
ROUNDS: Final = 8
OUTLIER_M: Final = 0.03
"""Geman-McClure scale of a detection, metres at the landmark's depth."""
LARGEST_OFFSET_M: Final = 0.15


@dataclass(frozen=True)
class View:
    """One picture of a known body and what the detector found in it."""

    posed: Posed
    """Of one frame."""
    focal_px: float
    centre: Float64
    found: BodyLandmarks
    """Of one frame."""


def calibrate(points: BodyPoints, views: Sequence[View], mirror: Sequence[int]) -> BodyPoints:
    """The points with the offsets and spreads that a detector's findings in `views` tell.

    `mirror` (75,) is the same landmark of the other side: both sides are measured as one, mirrored. Raises TalksetError
    missing_model when the detector sees the shoulders in fewer than a third of the views.
    """
    turn, place, wanted, scale, seen = _gathered(points, views)
    if seen[:, 11].mean() < 1 / 3:
        message = f"the detector found the rendered body in {seen[:, 11].sum()} of {len(views)} views"
        raise TalksetError("missing_model", message, "Use another detector or body model")
    flip = np.array([-1.0, 1.0, 1.0])
    offset, spread = np.zeros((COUNT, 3)), np.zeros(COUNT)
    for index in range(COUNT):
        other = mirror[index]
        if other < index:
            offset[index], spread[index] = flip * offset[other], spread[other]
            continue
        sides = [(index, np.eye(3)), (other, np.diag(flip))] if other != index else [(index, np.eye(3))]
        rows = [
            (turn[v, side] @ sign, place[v, side], wanted[v, side], scale[v, side])
            for side, sign in sides
            for v in np.flatnonzero(seen[:, side])
        ]
        if len(rows) >= LEAST_VIEWS:
            offset[index], spread[index] = _least_squares(rows)
            if other == index:
                offset[index, 0] = 0.0
    return points.moved(offset, spread, views[0].found.detector)


def _gathered(points: BodyPoints, views: Sequence[View]) -> tuple[Float64, ...]:
    """Rotation and place of each landmark, lines of sight (2,), metres a unit of them, and whether it was found."""
    turn = np.zeros((len(views), COUNT, 3, 3))
    place, wanted = np.zeros((len(views), COUNT, 3)), np.zeros((len(views), COUNT, 2))
    scale, seen = np.ones((len(views), COUNT)), np.zeros((len(views), COUNT), dtype=bool)
    for row, view in enumerate(views):
        found = view.found
        observed = np.full((COUNT, 3), np.nan)
        for part, values in (
            (POSE, found.pose_xyc),
            (LEFT_HAND, found.left_hand_xyc),
            (RIGHT_HAND, found.right_hand_xyc),
        ):
            observed[part] = values[0]
        seen[row] = np.isfinite(observed).all(1) & (observed[:, 2] > 0.5)
        turn[row] = view.posed.world[0, points.carrier]
        place[row] = view.posed.points[0]
        wanted[row] = np.where(seen[row][:, None], (observed[:, :2] - view.centre) / view.focal_px, 0)
        scale[row] = place[row, :, 2]
    return turn, place, wanted, scale, seen


def _least_squares(rows: list[tuple[Float64, Float64, Float64, float]]) -> tuple[Float64, float]:
    """Offset (3,) of a landmark in its joint's frame by robust linear least squares, and the RMS of what is left."""
    turn = np.stack([row[0] for row in rows])
    place = np.stack([row[1] for row in rows])
    wanted = np.stack([row[2] for row in rows])
    # (p + R o) projects onto w: (p + R o)_xy - w (p + R o)_z = 0, in metres
    matrix = turn[:, :2] - wanted[:, :, None] * turn[:, 2:]
    right = wanted * place[:, 2:] - place[:, :2]
    offset, weight = np.zeros(3), np.ones(len(rows))
    for _ in range(ROUNDS):
        normal = np.einsum("n,nka,nkb->ab", weight, matrix, matrix) + PULL * np.eye(3)
        offset = np.linalg.solve(normal, np.einsum("n,nka,nk->a", weight, matrix, right))
        left = ((matrix @ offset - right) ** 2).sum(1)
        weight = (OUTLIER_M**2 / (OUTLIER_M**2 + left)) ** 2
    length = float(np.linalg.norm(offset))
    offset *= min(1.0, LARGEST_OFFSET_M / max(length, 1e-12))
    return offset, float(np.sqrt((weight * left).sum() / weight.sum()))


def mirrored_landmarks() -> list[int]:
    """(75,) the same landmark of the other side."""
    hands = [*range(RIGHT_HAND.start, RIGHT_HAND.stop), *range(LEFT_HAND.start, LEFT_HAND.stop)]
    return [*POSE_MIRROR, *hands]


def measured_points(model: BodyModel, detector: BodyDetector, num_views: int = NUM_VIEWS) -> BodyPoints:
    """Render a body in gestures, detect, and place the landmarks. Raises TalksetError missing_model as `calibrate`."""
    points = points_of(model)
    skeleton = skeleton_of(model, articulation_of(model), points, model.num_shape)
    rng = np.random.default_rng(7)
    views = []
    for number in range(num_views):
        view = _view(model, skeleton, detector, rng, number)
        if view is not None:
            views.append(view)
    if not views:
        raise TalksetError("missing_model", f"{detector.name} found no rendered {model.name}", "Use another detector")
    return calibrate(points, views, mirrored_landmarks())


def _view(
    model: BodyModel, skeleton: Skeleton, detector: BodyDetector, rng: np.random.Generator, number: int
) -> View | None:
    """A random person in a random gesture, and what the detector finds."""
    parts = skeleton.articulation
    betas = np.clip(0.8 * rng.normal(size=model.num_shape), -2, 2)
    motion = parts.at_rest(1)
    for side in SIDES:
        gesture = random_gesture(skeleton, betas, side, rng)
        own = [index for index, freedom in enumerate(parts.freedoms) if freedom.name.startswith(f"{side}_")]
        motion[0, own] = gesture[own]
    motion[0, :3] = [rng.normal(0, 0.05), rng.uniform(-0.5, 0.5), rng.normal(0, 0.03)]
    distance, shown = rng.uniform(1.4, 2.2), rng.uniform(1.0, 1.5)
    size = np.array([480, 480])
    focal = float(size.min() * distance / shown)
    neck = pose(skeleton, betas, motion).joints[0, joint("neck")]
    motion[0, parts.translation] += np.array([0.0, -0.15 * shown, distance]) - neck
    posed = pose(skeleton, betas, motion)
    poses = parts.poses(motion)
    poses[:, 0] = Rotation.from_matrix(posed.world[:, 0]).as_rotvec()
    pelvis = (skeleton.joints + skeleton.joint_dirs @ betas)[0]
    skins = ((0.62, 0.41, 0.31), (0.30, 0.17, 0.11), (0.74, 0.52, 0.41))
    look = BodyLook(skin=skins[number % 3], sleeves=number % 2 == 0)
    picture = next(
        render_body(
            model,
            betas.astype(np.float32),
            poses.astype(np.float32),
            (motion[:, parts.translation] - pelvis).astype(np.float32),
            focal,
            (size / 2).astype(np.float32),
            int(size[0]),
            int(size[1]),
            look,
            seed=number,
        )
    )
    found = detector.detect_image(picture)
    return None if found is None else View(posed, focal, size / 2, found)


def points_for(model: BodyModel, config: ReconstructConfig, folder: Path) -> BodyPoints:
    """The landmarks of the configured detector on a body model: from the cache, or measured (a minute, once)."""

    def measure() -> BodyPoints:
        with BodyDetector(config) as detector:
            return measured_points(model, detector)

    return cached_points(points_of(model), detector_name(config), measure, folder)


def cached_points(points: BodyPoints, detector: str, measure: Callable[[], BodyPoints], folder: Path) -> BodyPoints:
    """The measured points from the cache, or measured and kept; safe to call from many processes."""
    safe = "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in detector)
    path = folder / f"{points.model_sha256[:16]}-{safe}-body-v{VERSION}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            LOGGER.info("measuring the landmarks of %s on the body", detector)
            made = measure()
            meta = json.dumps({"detector": detector, "model_sha256": points.model_sha256})
            offset = made.template - points.template
            write_npz(path, {"offset_m": offset, "spread_m": made.spread_m, "meta": np.array(meta)})
        try:
            with np.load(path, allow_pickle=False) as stored:
                return points.moved(stored["offset_m"], stored["spread_m"], detector)
        except (OSError, ValueError, KeyError) as error:
            message = f"{path} holds no body landmarks ({error})"
            raise TalksetError("corrupt_data", message, "Remove the file; it is made again") from error
