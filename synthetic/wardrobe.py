"""What a head model lacks to look like a person in a room: teeth, hair, shoulders, shadow in the mouth, a background.

All of it is drawn only; the truth stays the head model's own vertices.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from reconstruct.appearance import Canvas, Rgb, make_canvas
from reconstruct.camera import vertex_normals
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import SkinningModel, prepare
from schemas.types import Float32
from synthetic.apertures import find_apertures
from synthetic.talker import Talker

Float64 = NDArray[np.float64]

IVORY: Final[Rgb] = (0.62, 0.57, 0.48)
ROOT, NECK, JAW = 0, 1, 2


@dataclass(frozen=True)
class Dressed:
    """A head with everything that is drawn beside it, ready to be posed by `reconstruct.models.skinning.skin`."""

    skinning: SkinningModel
    """All drawn vertices; the model's own come first."""
    canvas: Canvas
    faces: Tensor
    """(F, 3) int32."""
    occlusion: Tensor
    """(V, 1) 0..1 light that reaches each vertex, the same in all frames."""
    plain: Tensor
    """(F,) bool: triangles smooth in colour, for which one sample a pixel is enough."""
    closed: Tensor
    """(F,) bool: triangles whose back is never seen."""


@dataclass(frozen=True)
class _Part:
    """An extra mesh in the rest pose."""

    vertices: Float64
    faces: NDArray[np.int64]
    colour: Rgb
    shade: Float64
    """(V,) factor on the colour."""
    joint: int
    plain: bool


def dress(model: HeadModel, shape: Float32, talker: Talker) -> Dressed:
    """Put teeth, hair and shoulders on a head of `shape` (S,)."""
    coefficients = torch.as_tensor(shape)
    canvas = make_canvas(model, coefficients)
    rest = canvas.rest.numpy().astype(np.float64)
    masks = _smooth_masks(model, canvas)
    skinning = prepare(model)
    hair = _hair_offset(model, canvas, masks, talker.outfit.hair_m)
    parts = [*_teeth(model, rest), _shoulders(model, rest, talker.outfit.cloth)]
    if talker.outfit.long_hair:
        parts.append(_long_hair(model, rest, talker))
    count = model.num_vertices
    vertices = torch.as_tensor(np.concatenate([part.vertices for part in parts]), dtype=torch.float32)
    extra = len(vertices)
    weights = torch.zeros(extra, 5)
    tint = torch.zeros(count + extra, 4)
    faces, plain, start = [torch.as_tensor(model.faces)], [_plain_faces(model, masks)], count
    for part in parts:
        span = slice(start, start + len(part.vertices))
        weights[span.start - count : span.stop - count, part.joint] = 1
        colour = np.outer(part.shade, part.colour)
        tint[span, :3] = torch.as_tensor(colour, dtype=torch.float32)
        tint[span, 3] = 1
        faces.append(torch.as_tensor(part.faces + start, dtype=torch.int32))
        plain.append(torch.full((len(part.faces),), part.plain))
        start = span.stop
    template = torch.cat([skinning.template + hair + _tucked_in(model, rest), vertices])
    empty = torch.zeros(3 * extra, 1)
    dressed = dataclasses.replace(
        skinning,
        template=template,
        shapedirs=torch.cat([skinning.shapedirs, empty.expand(-1, skinning.shapedirs.shape[1])]),
        posedirs=torch.cat([skinning.posedirs, empty.expand(-1, skinning.posedirs.shape[1])]),
        weights=torch.cat([skinning.weights, weights]),
        vertex_ids=np.arange(count + extra),
    )
    grown = Canvas(
        rest=torch.cat([canvas.rest, vertices]),
        masks=torch.cat([masks, torch.zeros(extra, masks.shape[1])]),
        eye_centres=canvas.eye_centres,
        eye_vertices=torch.cat([canvas.eye_vertices, torch.zeros(extra, dtype=torch.long)]),
        tint=tint,
    )
    occlusion = torch.cat([_occlusion(model, rest), torch.ones(extra, 1)])
    triangles = torch.cat(faces)
    closed = torch.arange(len(triangles)) < len(model.faces)
    return Dressed(dressed, grown, triangles, occlusion, torch.cat(plain), closed)


def _smooth_masks(model: HeadModel, canvas: Canvas) -> Tensor:
    """The canvas's masks with lips and hairline smoothed over the mesh, so that their outlines are not jagged."""
    masks = canvas.masks.clone()
    edges = torch.as_tensor(model.faces.astype(np.int64))
    edges = torch.cat([edges[:, [0, 1]], edges[:, [1, 2]], edges[:, [2, 0]]])
    edges = torch.cat([edges, edges.flip(1)])
    degree = torch.zeros(len(masks)).index_add_(0, edges[:, 0], torch.ones(len(edges))).clamp(min=1)
    for column, rounds in ((0, 1), (2, 2)):
        value = masks[:, column].clone()
        for _ in range(rounds):
            mean = torch.zeros_like(value).index_add_(0, edges[:, 0], value[edges[:, 1]]) / degree
            value = 0.5 * value + 0.5 * mean
        masks[:, column] = value
    return masks


def _hair_offset(model: HeadModel, canvas: Canvas, masks: Tensor, thickness_m: float) -> Tensor:
    """(V, 3) outward displacement of the scalp."""
    normals = vertex_normals(canvas.rest[None], torch.as_tensor(model.faces))[0]
    return normals * thickness_m * ((masks[:, 2:3] - 0.5) / 0.4).clamp(0, 1)


def _tucked_in(model: HeadModel, rest: Float64) -> Tensor:
    """(V, 3) displacement that hides the cut end of the neck under the shirt."""
    base = model.joint_regressor[ROOT].astype(np.float64) @ rest
    _, half_x, half_z, middle = _neck(model, rest)
    out = np.hypot(rest[:, 0] / half_x, (rest[:, 2] - middle) / half_z)
    low = np.clip((base[1] + 0.02 - rest[:, 1]) / 0.02, 0, 1)
    down = np.clip((out - 1.0) / 0.25, 0, 1) * low * model.weights[:, ROOT]
    return torch.as_tensor(np.outer(down, [0.0, -0.045, 0.0]), dtype=torch.float32)


def _neck(model: HeadModel, rest: Float64) -> tuple[float, float, float, float]:
    """Largest half width of the neck's stub; half width, half depth and centre (z) of the neck at its base."""
    base = model.joint_regressor[ROOT].astype(np.float64) @ rest
    stub = rest[model.regions["neck"]]
    slab = stub[np.abs(stub[:, 1] - (base[1] + 0.005)) < 0.012]
    front, rear = slab[:, 2].max(), slab[:, 2].min()
    half_x = np.abs(slab[:, 0]).max()
    out = max(np.abs(stub[:, 0]).max(), half_x)
    return float(out), float(half_x), float(front - rear) / 2, float(front + rear) / 2


def _plain_faces(model: HeadModel, masks: Tensor) -> Tensor:
    """(F,) triangles of skin and hair only: no lips, lids, eyes, mouth, nor hairline."""
    busy = (masks[:, 2] > 0.05) & (masks[:, 2] < 0.95)
    for name in ("lips", "eyelids", "left_eyeball", "right_eyeball", "mouth", "tongue"):
        busy[torch.as_tensor(model.regions[name].astype(np.int64))] = True
    return torch.as_tensor(~busy[torch.as_tensor(model.faces.astype(np.int64))].any(1))


def _occlusion(model: HeadModel, rest: Float64) -> Tensor:
    """(V, 1) darker deep in the mouth, under the upper lids, under the chin."""
    light = np.ones(len(rest))
    lips = model.regions["lips"]
    inside = np.concatenate([model.regions["mouth"], model.regions["tongue"]])
    depth = rest[lips, 2].max() - rest[inside, 2]
    light[inside] = np.clip(1.15 - depth / 0.035, 0.12, 1.0)
    for name in ("left_eyeball", "right_eyeball"):
        ids = model.regions[name]
        above = rest[ids, 1] - rest[ids, 1].mean()
        light[ids] = 0.95 - 0.5 / (1 + np.exp(-(above - 0.0035) / 0.0012))
    chin = rest[model.regions["face"], 1].min()
    neck = model.regions["neck"]
    light[neck] = np.clip(0.70 + (chin - rest[neck, 1]) / 0.15, 0.70, 1.0)
    return torch.as_tensor(light[:, None], dtype=torch.float32)


def _grid_faces(rows: int, columns: int) -> NDArray[np.int64]:
    """Two triangles for each cell of a (rows, columns) grid of vertices."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])


def _teeth(model: HeadModel, rest: Float64) -> list[_Part]:
    """Two rows of teeth behind the lips, as bands along an elliptic arch."""
    above, _ = find_apertures(model).lips
    edge = above[rest[above, 1].argmin()]
    lips = rest[model.regions["lips"]]
    width = lips[:, 0].max() - lips[:, 0].min()
    teeth, per_tooth = 10, 4
    columns = teeth * per_tooth + 1
    angle = np.linspace(-1.25, 1.25, columns)
    phase = np.arange(columns) % per_tooth
    seam = np.where(phase == 0, 0.72, 1.0)
    parts = []
    for joint, top, bottom, back, dark in ((NECK, 0.0070, -0.0030, 0.0065, 1.0), (JAW, -0.0035, -0.0120, 0.0085, 0.8)):
        levels = np.linspace(top, bottom, 3)
        x = np.tile(0.52 * width * np.sin(angle), (3, 1))
        z = np.tile(rest[edge, 2] - back - 0.60 * width * (1 - np.cos(angle)), (3, 1))
        y = rest[edge, 1] + np.repeat(levels[:, None], columns, axis=1)
        y[2 if joint == NECK else 0] += np.where(phase == 0, 0.0007 if joint == NECK else -0.0007, 0.0)
        shade = dark * np.tile(seam * np.clip(1.1 - 0.75 * np.abs(angle), 0.2, 1.0), (3, 1))
        vertices = np.stack([x, y, z], -1).reshape(-1, 3)
        parts.append(_Part(vertices, _grid_faces(3, columns), IVORY, shade.ravel(), joint, plain=False))
    return parts


def _shoulders(model: HeadModel, rest: Float64, cloth: Rgb) -> _Part:
    """A round-necked shirt: elliptic rings from the collar over the shoulders down the chest."""
    base = model.joint_regressor[ROOT].astype(np.float64) @ rest
    out, half_x, half_z, middle = _neck(model, rest)
    # height above the neck's base, half width, half depth, how far forward
    rings = np.array(
        [
            [-0.030, half_x - 0.004, half_z - 0.004, 0.0],
            [-0.006, half_x + 0.012, half_z + 0.012, 0.0],
            [-0.012, half_x + 0.020, half_z + 0.020, 0.0],
            [-0.026, out + 0.015, half_z + 0.035, 0.0],
            [-0.045, out + 0.060, half_z + 0.045, 0.0],
            [-0.075, out + 0.095, half_z + 0.055, 0.005],
            [-0.130, out + 0.110, half_z + 0.065, 0.010],
            [-0.450, out + 0.100, half_z + 0.070, 0.010],
        ]
    )
    fine = np.linspace(0, len(rings) - 1, 4 * len(rings))
    rings = np.stack([np.interp(fine, np.arange(len(rings)), column) for column in rings.T], axis=1)
    rings = np.stack([np.convolve(np.pad(c, 1, mode="edge"), [0.25, 0.5, 0.25], "valid") for c in rings.T], axis=1)
    angle = np.linspace(-np.pi, np.pi, 49)  # the seam is at the back
    height, wide, deep, forward = (column[:, None] for column in rings.T)
    x = wide * np.sin(angle)
    z = middle + forward + deep * np.cos(angle)
    dip = 0.016 * (0.5 + 0.5 * np.cos(angle)) * np.exp(-((np.arange(len(rings))[:, None] / 9.0) ** 2))
    y = base[1] + height + 0 * angle - dip
    vertices = np.stack([x, y, z], -1).reshape(-1, 3)
    shade = np.repeat(np.where(np.arange(len(rings)) < 3, 0.45, np.where(np.arange(len(rings)) < 7, 0.85, 1.0)), 49)
    return _Part(vertices, _grid_faces(len(rings), 49), cloth, shade, ROOT, plain=True)


def _long_hair(model: HeadModel, rest: Float64, talker: Talker) -> _Part:
    """Hair that falls behind the ears to the shoulders: a curtain around the back of the head."""
    scalp = rest[model.regions["scalp"]]
    ears = rest[model.regions["ears"]]
    half_x = np.abs(ears[:, 0]).max()
    back, ear_z, ear_y = scalp[:, 2].min(), ears[:, 2].mean(), ears[:, 1].mean()
    base = float(model.joint_regressor[ROOT].astype(np.float64) @ rest[:, 1])
    top = scalp[:, 1].max()
    rows, columns = 24, 61
    fall = np.linspace(0, 1, rows)[:, None]
    y = (top - 0.012) + fall * (base - 0.02 - top)
    # the skull is round at the top: the curtain widens to the ears, then hangs
    round_top = np.sqrt(np.clip(1 - np.clip((y - ear_y) / (top - ear_y), 0, 1) ** 2, 0, 1))
    thick = talker.outfit.hair_m
    wide = round_top * (half_x + 0.3 * thick) + 0.012 * np.clip(fall - 0.45, 0, 1)
    deep = round_top * (ear_z - back + thick)
    angle = np.linspace(-0.56 * np.pi, 0.56 * np.pi, columns)[None]
    wave = 1 + 0.015 * np.sin(23 * angle) * fall
    x, z = wide * np.sin(angle) * wave, ear_z - 0.006 - deep * np.cos(angle) * wave
    vertices = np.stack([x, y + 0 * angle, z], -1).reshape(-1, 3)
    strands = 1 + 0.25 * np.sin(57 * angle + 3 * fall) * np.sin(31 * angle + 1)
    return _Part(
        vertices, _grid_faces(rows, columns), talker.look.scalp, (strands + 0 * fall).ravel(), NECK, plain=True
    )


def paint_background(talker: Talker) -> Float32:
    """(H, W, 3) linear RGB: a vertical gradient with soft blobs, as of a room out of focus."""
    rng = np.random.default_rng([talker.background_seed, 5])
    height, width = talker.height, talker.width
    down = np.linspace(0, 1, height)[:, None, None]
    top, bottom = (np.array(colour) for colour in talker.background)
    picture = np.broadcast_to((1 - down) * top + down * bottom, (height, width, 3)).copy()
    size = max(height, width)
    rows, columns = np.mgrid[:height, :width]
    for _ in range(7):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        wide, high = rng.uniform(0.04, 0.22, 2) * size
        inside = (np.abs(columns - x) < wide) & (np.abs(rows - y) < high)
        picture[inside] = picture[inside] * rng.uniform(0.6, 1.5) + rng.uniform(-0.03, 0.05, 3)
    return np.asarray(gaussian_filter(picture, (0.03 * size, 0.03 * size, 0)).clip(0.005, 1), dtype=np.float32)
