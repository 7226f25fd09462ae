"""The published way to track a head, as a peer: Adam through the whole mesh, frame after frame.

Shape and focal length come from a few frames at the start, then every frame starts from the one before (as in
metrical-tracker, VHAP and the FLAME fitting scripts). The terms of the loss are ours: robust landmarks by their trust,
pulls of shape, focal length, expression and gaze; the prior over time becomes a pull to the frame before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.camera import FACING_CAMERA, default_focal, image_centre, project
from reconstruct.embedding import Embedding
from reconstruct.landmarks.topology import interocular
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import SkinningModel, axis_angle_to_matrix, prepare, skin
from schemas.types import HeadTrack, LandmarkTrack

PEER = "Adam, full mesh, frame after frame"
FIRST_FRAMES = 4
FIRST_STEPS = 400
STEPS = 150
ROBUST_SCALE = 0.03
"""Geman-McClure scale, of the distance of the outer eye corners."""
FLOOR_M = 0.002
"""Landmarks are trusted by 1 / (spread^2 + floor^2)."""
LANDMARKS, EXPRESSION, SHAPE, FOCAL, VERGENCE, TEMPORAL = 2e4, 0.6, 0.02, 0.2, 5.0, 0.05
"""Weights: mean squared landmark error, pulls to rest, of the eyes to one direction, and to the frame before."""
RATES = {"shape": 0.03, "log_focal": 0.01, "expression": 0.02, "pose": 0.01, "rotation": 0.005, "translation": 0.002}


@dataclass(frozen=True)
class _Data:
    """Whole mesh and observations."""

    mesh: SkinningModel
    corners: Tensor
    """(L, 3) vertex ids."""
    barycentric: Tensor
    """(L, 3)"""
    trust: Tensor
    """(L,) mean 1."""
    observed: Tensor
    """(T, L, 2)"""
    scale_px: Tensor
    """(T,)"""
    centre: Tensor
    free: Tensor
    """Expressions that move."""
    bounds: Tensor
    """(E', 2) of them."""
    focal_guess: float


def fit_with_adam(model: HeadModel, embedding: Embedding, track: LandmarkTrack) -> tuple[HeadTrack, float]:
    """The fit of a clip whose frames are all valid, and the seconds that it took."""
    started = time.perf_counter()
    data = _data(model, embedding, track)
    frames = len(track.valid)
    shape, log_focal = torch.zeros(model.num_shape), torch.tensor(float(np.log(data.focal_guess)))
    first = np.unique(np.linspace(0, frames - 1, FIRST_FRAMES).round().astype(int))
    state = _placed(data, first)
    shape, log_focal, _ = _descend(data, torch.as_tensor(first), shape, log_focal, state, None, FIRST_STEPS, True)
    found: list[dict[str, Tensor]] = []
    state = {name: value[:1] for name, value in _placed(data, np.array([0])).items()}
    for frame in range(frames):
        before = found[-1] if found else None
        steps = STEPS if found else FIRST_STEPS
        _, _, state = _descend(data, torch.tensor([frame]), shape, log_focal, state, before, steps, False)
        found.append(state)
    seconds = time.perf_counter() - started
    return _track(model, data, shape, log_focal, found, track), seconds


def _data(model: HeadModel, embedding: Embedding, track: LandmarkTrack) -> _Data:
    free = [i for i, name in enumerate(model.expression_names) if name not in model.fixed_expressions]
    trust = 1 / (embedding.spread_m.astype(np.float64) ** 2 + FLOOR_M**2)
    return _Data(
        mesh=prepare(model),
        corners=torch.as_tensor(embedding.vertices),
        barycentric=torch.as_tensor(embedding.barycentric),
        trust=torch.as_tensor(trust / trust.mean(), dtype=torch.float32),
        observed=torch.as_tensor(track.face_xy),
        scale_px=torch.as_tensor(interocular(track.face_xy)),
        centre=torch.as_tensor(image_centre(track.width, track.height)),
        free=torch.tensor(free),
        bounds=torch.as_tensor(model.expression_bounds[free]),
        focal_guess=default_focal(track.width, track.height),
    )


def _placed(data: _Data, frames: NDArray[np.int64]) -> dict[str, Tensor]:
    """The mean head without expression in some frames, placed by perspective-n-point."""
    rest = (data.barycentric[..., None] * data.mesh.template[data.corners]).sum(1).double().numpy()
    root = data.mesh.joint_template[0].double().numpy()
    centre = data.centre.numpy()
    camera = np.array([[data.focal_guess, 0, centre[0]], [0, data.focal_guess, centre[1]], [0, 0, 1]])
    back = cv2.Rodrigues(FACING_CAMERA.astype(np.float64))[0].T
    rotations, translations = [], []
    for frame in frames:
        picture = data.observed[frame].double().numpy()
        _, rotation, offset = cv2.solvePnP(rest, picture, camera, None, flags=cv2.SOLVEPNP_SQPNP)
        turn = cv2.Rodrigues(rotation)[0]
        rotations.append(cv2.Rodrigues(turn @ back)[0][:, 0])
        translations.append(offset[:, 0] + turn @ root - root)
    count = len(frames)
    return {
        "expression": torch.zeros(count, len(data.free)),
        "pose": torch.zeros(count, 9),
        "rotation": torch.as_tensor(np.array(rotations), dtype=torch.float32),
        "translation": torch.as_tensor(np.array(translations), dtype=torch.float32),
    }


def _arguments(data: _Data, state: dict[str, Tensor]) -> list[Tensor]:
    """Arguments of `skin` after the shape."""
    import roma

    count = len(state["pose"])
    names = data.mesh.shapedirs.shape[1] - data.mesh.num_shape
    expression = torch.zeros(count, names).index_copy(1, data.free, state["expression"])
    turn = axis_angle_to_matrix(state["rotation"]) @ axis_angle_to_matrix(torch.as_tensor(FACING_CAMERA))
    root = roma.rotmat_to_rotvec(turn)
    jaw, left, right = (state["pose"][:, start : start + 3] for start in (0, 3, 6))
    return [expression, root, torch.zeros(count, 3), jaw, left, right, state["translation"]]


def _loss(
    data: _Data,
    frames: Tensor,
    shape: Tensor,
    log_focal: Tensor,
    state: dict[str, Tensor],
    before: dict[str, Tensor] | None,
) -> Tensor:
    vertices = skin(data.mesh, shape, *_arguments(data, state))
    points = (data.barycentric[None, ..., None] * vertices[:, data.corners]).sum(2)
    pixels = project(points, log_focal.exp(), data.centre)[..., :2]
    squared = (((pixels - data.observed[frames]) / data.scale_px[frames][:, None, None]) ** 2).sum(-1)
    scale = ROBUST_SCALE
    robust = (data.trust * scale**2 * squared / (scale**2 + squared)).mean(1).sum()
    pull = EXPRESSION * ((state["expression"] ** 2).sum() + 0.2 * (state["pose"] ** 2).sum())
    vergence = VERGENCE * ((state["pose"][:, 3:6] - state["pose"][:, 6:9]) ** 2).sum()
    shared = SHAPE * (shape**2).sum() + FOCAL * (log_focal - np.log(data.focal_guess)) ** 2
    total = LANDMARKS * robust + pull + vergence + len(frames) * shared
    if before is not None:
        step = sum(((state[name] - before[name]) ** 2).sum() for name in ("expression", "pose"))
        total = total + TEMPORAL * step
    return torch.as_tensor(total)


def _descend(
    data: _Data,
    frames: Tensor,
    shape: Tensor,
    log_focal: Tensor,
    state: dict[str, Tensor],
    before: dict[str, Tensor] | None,
    steps: int,
    shared: bool,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Adam on some frames, with or without what the clip shares; coefficients are clamped to their bounds."""
    moving = {name: value.detach().clone().requires_grad_() for name, value in state.items()}
    shape, log_focal = (value.detach().clone().requires_grad_(shared) for value in (shape, log_focal))
    groups = [{"params": [value], "lr": RATES[name]} for name, value in moving.items()]
    if shared:
        groups += [{"params": [shape], "lr": RATES["shape"]}, {"params": [log_focal], "lr": RATES["log_focal"]}]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, 0.0)
    for _ in range(steps):
        optimiser.zero_grad()
        _loss(data, frames, shape, log_focal, moving, before).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            moving["expression"].copy_(moving["expression"].clamp(data.bounds[:, 0], data.bounds[:, 1]))
    return shape.detach(), log_focal.detach(), {name: value.detach() for name, value in moving.items()}


def _track(
    model: HeadModel,
    data: _Data,
    shape: Tensor,
    log_focal: Tensor,
    found: list[dict[str, Tensor]],
    track: LandmarkTrack,
) -> HeadTrack:
    state = {name: torch.cat([frame[name] for frame in found]) for name in found[0]}
    expression, root, neck, jaw, left, right, move = (value.numpy() for value in _arguments(data, state))
    nothing = np.full(len(found), np.nan, dtype=np.float32)
    return HeadTrack(
        head_model=model.name,
        model_sha256=model.sha256,
        shape=shape.numpy(),
        expression=expression,
        global_pose=root,
        neck_pose=neck,
        jaw_pose=jaw,
        left_eye_pose=left,
        right_eye_pose=right,
        translation=move,
        focal_px=float(log_focal.exp()),
        principal_point=image_centre(track.width, track.height),
        valid=track.valid.copy(),
        residual_px=nothing,
        nme=nothing,
    )
