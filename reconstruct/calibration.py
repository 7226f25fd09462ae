"""How a landmark embedding is found: which surface point of a model is point i of a detector.

Works for any model and detector: render the model in many poses, shapes and looks, detect, and lift every detected
pixel back to its triangle, average in the rest pose, and put the average on the nearest triangle that may carry the
point. The inner lips, which a closed mouth hides, are put where they project nearest to the detections of closed and
of open mouths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from reconstruct.appearance import Look, make_canvas, shade, to_srgb
from reconstruct.camera import FACING_CAMERA, image_centre, project, vertex_normals
from reconstruct.embedding import Embedding
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import SkinningModel, axis_angle_to_matrix, prepare, skin
from reconstruct.raster import Fragments, fragments, make_rasterizer
from schemas.errors import TalksetError

Detect = Callable[[NDArray[np.uint8]], "NDArray[np.float32] | None"]
"""(H, W, 3) RGB picture -> (L, 2) pixels, or None where no face is found."""


@dataclass(frozen=True)
class View:
    """One picture of the calibration."""

    yaw: float
    pitch: float
    roll: float
    jaw: float
    expressions: dict[str, float]
    seed: int
    """Of the identity; 0 is the mean head."""
    look: Look


SIZE_PX = 512
FOCAL_PX = 1400.0
DISTANCE_M = 1.0
REACH_PX = 12
SAME_POINT_M = 0.008
"""Liftings farther than this from the frontal ones show another surface."""
AROUND_M = 0.008
"""Triangles nearer than this to where an open mouth shows a point of the inner lips may carry it."""
CLOSED_WEIGHT = 3
CLOSED_RAD = 0.1
OPEN_RAD = 0.2
"""Jaw angles below and above which a mouth counts as closed and as open. Between them detectors waver: of a gap of 12 %
of the interocular distance they see 8 +- 3 %."""
LOOKS = (
    Look(),
    Look(skin=(0.36, 0.21, 0.15), lips=(0.30, 0.13, 0.12), iris=(0.06, 0.04, 0.03), light=(-0.5, -0.4, -0.8)),
    Look(skin=(0.85, 0.66, 0.56), lips=(0.72, 0.36, 0.34), brows=(0.35, 0.24, 0.15), iris=(0.25, 0.35, 0.45)),
)


def default_views() -> tuple[View, ...]:
    """Frontal to 35 degrees of yaw; closed, half-open and open mouth; plain and wide eyes; seven heads."""
    jaws = (0.0, 0.12, 0.25)
    views = []
    for index, (yaw, pitch) in enumerate(
        (y, p) for y in (-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6) for p in (-0.2, 0.0, 0.2)
    ):
        for turn in range(2):
            number = 2 * index + turn
            eyes = {"eyeWideLeft": 0.5, "eyeWideRight": 0.5} if number % 2 else {}
            views.append(
                View(
                    yaw=yaw,
                    pitch=pitch,
                    roll=0.1 * (number % 3 - 1),
                    jaw=jaws[(number + turn) % 3],
                    expressions=eyes,
                    seed=number % 7,
                    look=LOOKS[number % len(LOOKS)],
                )
            )
    return tuple(views)


@dataclass(frozen=True)
class Rendering:
    """A calibration picture and what lies under each of its pixels."""

    picture: NDArray[np.uint8]
    face: NDArray[np.int32]
    """(H, W) triangle id, -1 outside."""
    barycentric: NDArray[np.float32]
    """(H, W, 3)"""
    facing: NDArray[np.float32]
    """(H, W) cosine between surface normal and view, 0 outside."""
    pixels: NDArray[np.float32]
    """(V, 2) projected vertices."""


def render_view(model: HeadModel, view: View) -> Rendering:
    """Draw one calibration picture, eyes in the middle."""
    random = np.random.default_rng(view.seed)
    shape = torch.zeros(model.num_shape)
    if view.seed:
        count = min(20, model.num_shape)
        shape[:count] = torch.as_tensor(random.normal(0, 0.6, count), dtype=torch.float32)
    expression = torch.zeros(1, model.num_expression)
    for name, value in view.expressions.items():
        if name in model.expression_names:
            expression[0, model.expression_names.index(name)] = value
    vertices, _ = stand(prepare(model), eyes_of(model), shape, expression, view.jaw, (view.pitch, view.yaw, view.roll))
    faces = torch.as_tensor(model.faces)
    pixels, front, picture = photograph(model, shape, vertices, view.look, SIZE_PX, FOCAL_PX)
    normal = torch.nn.functional.normalize(front.interpolate(vertex_normals(vertices, faces)), dim=-1)
    towards = -torch.nn.functional.normalize(front.interpolate(vertices), dim=-1)
    facing = torch.zeros(SIZE_PX, SIZE_PX)
    facing[front.row, front.column] = (normal * towards).sum(-1)
    barycentric = torch.zeros(SIZE_PX, SIZE_PX, 3)
    barycentric[front.row, front.column] = front.barycentric
    face = torch.full((SIZE_PX, SIZE_PX), -1, dtype=torch.int32)
    face[front.row, front.column] = front.face.to(torch.int32)
    return Rendering(picture, face.numpy(), barycentric.numpy(), facing.numpy(), pixels[0, :, :2].numpy())


def eyes_of(model: HeadModel) -> Callable[[Tensor], Tensor]:
    """The point between the eyes (3,) of a shape (S,), rest pose."""
    regressor = torch.as_tensor(model.joint_regressor[3:5]).float().mean(0)
    template, identity = torch.as_tensor(model.v_template).float(), torch.as_tensor(model.identity).float()
    mean, slope = regressor @ template, torch.einsum("v,vcs->cs", regressor, identity)
    return lambda shape: torch.as_tensor(mean + slope @ shape)


def stand(
    head: SkinningModel,
    eyes: Callable[[Tensor], Tensor],
    shape: Tensor,
    expression: Tensor,
    jaw: float,
    rotation: tuple[float, float, float],
) -> tuple[Tensor, Tensor]:
    """Vertices (1, n, 3) of a head in front of the calibration's camera, and how the whole of it is turned (3, 3)."""
    zero = torch.zeros(1, 3)
    rest = skin(head, shape, expression, zero, zero, torch.tensor([[jaw, 0, 0]]), zero, zero, zero)
    turned = axis_angle_to_matrix(torch.as_tensor(FACING_CAMERA)) @ axis_angle_to_matrix(torch.tensor(rotation))
    return (rest - eyes(shape)) @ turned.T + torch.tensor([0.0, 0.03, DISTANCE_M]), turned


def photograph(
    model: HeadModel, shape: Tensor, vertices: Tensor, look: Look, size_px: int, focal_px: float
) -> tuple[Tensor, Fragments, NDArray[np.uint8]]:
    """Projected vertices (1, V, 3), what each pixel shows, and the picture (size, size, 3) of a head on grey."""
    faces = torch.as_tensor(model.faces)
    pixels = project(vertices, focal_px, torch.as_tensor(image_centre(size_px, size_px)))
    ids = make_rasterizer("warp").rasterize(pixels, faces, size_px, size_px)
    front = fragments(ids, pixels, faces)
    picture = torch.full((size_px, size_px, 3), 0.3)
    picture[front.row, front.column] = shade(make_canvas(model, shape), look, front, vertices, faces)
    return pixels, front, to_srgb(picture).numpy()


def compute_embedding(
    model: HeadModel,
    detector: str,
    detect: Detect,
    eyeball_points: Sequence[int],
    open_mouth_points: Sequence[int],
    views: Sequence[View] | None = None,
) -> Embedding:
    """Embed a detector's landmarks on a model.

    Args: detector: its name, recorded; detect: finds (L, 2) pixels in a picture; eyeball_points: landmarks that lie on
    the eyeballs, all others lie on skin; open_mouth_points: landmarks of the inner lips, which only an open mouth
    tells apart.
    Raises TalksetError("missing_model") when the detector finds the rendered face in fewer than half of the views.
    """
    views = default_views() if views is None else views
    rest = model.v_template.astype(np.float64)
    lifted: list[NDArray[np.float64]] = []
    seen: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    found: list[View] = []
    for view in views:
        rendering = render_view(model, view)
        points = detect(rendering.picture)
        if points is None:
            continue
        carriers = _carriers(model, len(points), eyeball_points)
        row = np.full((len(points), 3), np.nan)
        for landmarks, carrier in carriers:
            row[landmarks] = _lift(rendering, points[landmarks], carrier, rest, model.faces)
        if view.jaw < CLOSED_RAD:
            row[list(open_mouth_points)] = np.nan
        lifted.append(row)
        seen.append((points, rendering.pixels))
        found.append(view)
    if len(lifted) < len(views) / 2:
        raise TalksetError(
            "missing_model",
            f"{detector} found the rendered face of {model.name!r} in {len(lifted)} of {len(views)} views",
            "Give an official landmark embedding for this model",
        )
    stack = np.stack(lifted)  # (views, L, 3)
    frontal = [abs(view.yaw) < 0.3 for view in found]
    first = stack[frontal]  # a turned head hides points, whose pixels then lie on something else
    missing = np.flatnonzero(np.isfinite(first[:, :, 0]).sum(0) < 3)
    if len(missing):
        raise TalksetError(
            "missing_model",
            f"landmarks {missing.tolist()} of {detector} are on {model.name!r} in fewer than 3 of {len(first)} views",
            "Give an official landmark embedding for this model",
        )
    centre = np.nanmedian(first, axis=0)
    near = np.linalg.norm(stack - centre, axis=2) < np.maximum(
        SAME_POINT_M, 1.5 * np.nanmedian(np.linalg.norm(first - centre, axis=2), axis=0)
    )
    centre = np.nanmean(np.where(near[:, :, None], stack, np.nan), axis=0)
    triangles, weights = np.zeros((len(centre), 3), np.int64), np.zeros((len(centre), 3))
    for landmarks, carrier in carriers:
        allowed = model.faces[carrier].astype(np.int64)
        chosen, barycentric = closest_points(centre[landmarks], rest[allowed])
        triangles[landmarks], weights[landmarks] = allowed[chosen], barycentric
    placed = (weights[:, :, None] * rest[triangles]).sum(1)
    offset = np.where(near, np.linalg.norm(stack - placed, axis=2), np.nan)
    spread = np.sqrt(np.nanmean(offset**2, axis=0))
    counted = np.repeat(np.arange(len(found)), [_lip_weight(view) for view in found])
    detected, projected = (np.stack(arrays)[counted].astype(np.float64) for arrays in zip(*seen, strict=True))
    allowed = model.faces[carriers[1][1]].astype(np.int64)
    for landmark in open_mouth_points:
        around = allowed[np.linalg.norm(rest[allowed].mean(1) - centre[landmark], axis=1) < AROUND_M]
        best, weights[landmark], error_px = least_reprojection(detected[:, landmark], projected[:, around])
        triangles[landmark], spread[landmark] = around[best], error_px * DISTANCE_M / FOCAL_PX
    return Embedding(
        detector=detector,
        model_sha256=model.sha256,
        vertices=triangles,
        barycentric=weights.astype(np.float32),
        spread_m=spread.astype(np.float32),
        samples=near.sum(0).astype(np.int32),
        offset_m=np.zeros((len(centre), 3), np.float32),
        response=np.zeros((len(centre), 3, model.num_shape), np.float32),
    )


def _lip_weight(view: View) -> int:
    """How often a view counts for the inner lips: a millimetre between closed lips is worse than between open ones."""
    return CLOSED_WEIGHT if view.jaw < CLOSED_RAD else int(view.jaw > OPEN_RAD)


def _carriers(
    model: HeadModel, count: int, eyeball_points: Sequence[int]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.bool_]], ...]:
    """Pairs of landmark ids and the triangles (F,) that may carry them: eyeballs, or skin without the inner mouth."""
    eyeball = np.zeros(model.num_vertices, dtype=bool)
    for name in ("left_eyeball", "right_eyeball"):
        eyeball[model.regions[name]] = True
    inside = eyeball.copy()
    for name in ("mouth", "tongue"):
        inside[model.regions[name]] = True
    on_eye = np.asarray(eyeball_points, dtype=np.int64)
    on_skin = np.setdiff1d(np.arange(count), on_eye)
    return (on_eye, eyeball[model.faces].all(1)), (on_skin, ~inside[model.faces].all(1))


def _lift(
    rendering: Rendering,
    points: NDArray[np.float32],
    carrier: NDArray[np.bool_],
    rest: NDArray[np.float64],
    faces: NDArray[np.int32],
) -> NDArray[np.float64]:
    """(n, 3) rest-pose points of the carrier pixels nearest to detected pixels; NaN when none is near or it is grazing.

    Inner lips and lids fall a pixel or two into the mouth or onto the eyeball; they belong to the skin beside it.
    """
    allowed = (rendering.face >= 0) & carrier[rendering.face] & (rendering.facing > 0.1)
    distance, (rows, columns) = ndimage.distance_transform_edt(~allowed, return_indices=True)
    column, row = np.floor(points).astype(int).T
    lifted = np.full((len(points), 3), np.nan)
    inside = (row >= 0) & (row < SIZE_PX) & (column >= 0) & (column < SIZE_PX)
    inside[inside] = distance[row[inside], column[inside]] <= REACH_PX
    at = rows[row[inside], column[inside]], columns[row[inside], column[inside]]
    corners = rest[faces[rendering.face[at]]]
    lifted[inside] = (rendering.barycentric[at][:, :, None] * corners).sum(1)
    return lifted


def least_reprojection(
    detected: NDArray[np.float64], corners: NDArray[np.float64]
) -> tuple[int, NDArray[np.float64], float]:
    """Which of F triangles holds the point that projects nearest to its detections, its barycentric weights (3,) and
    the RMS distance in pixels.

    Args: detected (n, 2) pixels in n views; corners (n, F, 3, 2) pixels of the triangles there. A projection being
    almost affine over one triangle, the sum of squares is quadratic in the weights: its minimum lies where the normal
    equations put it, or on one of the three edges.
    """
    edges = corners[:, :, :2] - corners[:, :, 2:]  # (n, F, 2 weights, 2 pixels)
    wanted = detected[:, None] - corners[:, :, 2]
    normal = np.einsum("nfap,nfbp->fab", edges, edges)
    right = np.einsum("nfap,nfp->fa", edges, wanted)
    damping = 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-12
    inner = np.linalg.solve(normal + damping * np.eye(2), right[:, :, None])[:, :, 0]
    candidates = [np.concatenate([inner, 1 - inner.sum(1, keepdims=True)], axis=1)]
    for first, second in ((0, 1), (1, 2), (2, 0)):
        edge = corners[:, :, second] - corners[:, :, first]
        along = ((detected[:, None] - corners[:, :, first]) * edge).sum((0, 2)) / ((edge**2).sum((0, 2)) + 1e-12)
        weights = np.zeros((corners.shape[1], 3))
        weights[:, second] = np.clip(along, 0, 1)
        weights[:, first] = 1 - weights[:, second]
        candidates.append(weights)
    stacked = np.stack(candidates, axis=1)  # (F, 4, 3)
    placed = np.einsum("fkc,nfcp->nfkp", stacked, corners)
    cost = ((placed - detected[:, None, None]) ** 2).sum((0, 3))
    cost[stacked.min(2) < 0] = np.inf
    best, kind = np.unravel_index(int(cost.argmin()), cost.shape)
    error_px = float(np.sqrt(cost[best, kind] / len(detected)))
    return int(best), np.asarray(stacked[best, kind], np.float64), error_px


def closest_points(
    points: NDArray[np.float64], triangles: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Nearest triangle (n,) and barycentric weights (n, 3) of the nearest point in it, for points (n, 3) and (F, 3, 3).

    Projects onto each triangle's plane where that falls inside, else onto its three edges.
    """
    best, weights = np.zeros(len(points), np.int64), np.zeros((len(points), 3))
    middle = triangles.mean(1)
    radius = np.linalg.norm(triangles - middle[:, None], axis=2).max(1)
    for index, point in enumerate(points):
        away = np.linalg.norm(middle - point, axis=1)
        near = np.flatnonzero(away - radius <= (away + radius).min())  # no other triangle can be nearer
        best[index], weights[index] = _closest_point(point, triangles[near])
        best[index] = near[best[index]]
    return best, weights


def _closest_point(point: NDArray[np.float64], triangles: NDArray[np.float64]) -> tuple[int, NDArray[np.float64]]:
    """Nearest of some triangles (F, 3, 3) to one point (3,), and the barycentric weights (3,) there."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    normal = np.cross(b - a, c - a)
    area = np.maximum((normal**2).sum(1), 1e-30)
    u = (np.cross(c - b, point - b) * normal).sum(1) / area
    v = (np.cross(a - c, point - c) * normal).sum(1) / area
    candidates = [np.stack([u, v, 1 - u - v], axis=1)]
    outside = candidates[0].min(1) < 0
    for first, second in ((0, 1), (1, 2), (2, 0)):
        start, edge = triangles[:, first], triangles[:, second] - triangles[:, first]
        along = np.clip(((point - start) * edge).sum(1) / np.maximum((edge**2).sum(1), 1e-30), 0, 1)
        candidate = np.zeros((len(a), 3))
        candidate[:, first], candidate[:, second] = 1 - along, along
        candidates.append(candidate)
    distance = np.stack(
        [np.linalg.norm((w[:, :, None] * triangles).sum(1) - point, axis=1) for w in candidates], axis=1
    )
    distance[outside, 0] = np.inf
    flat = int(distance.argmin())
    return flat // 4, candidates[flat % 4][flat // 4]
