"""Colour of a head's surface, painted procedurally in the model's rest pose: skin, lips, brows, sclera, iris, pupil.

Used wherever a head must look like a face: to find where a detector's landmarks lie on a model, and to render the
synthetic talkers. Every pixel is coloured from its rest position, so eyes are round at any resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reconstruct.camera import vertex_normals
from reconstruct.models.head_model import HeadModel
from reconstruct.raster.base import Fragments

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """Colours (linear RGB 0..1) and light of one person."""

    skin: Rgb = (0.72, 0.50, 0.40)
    lips: Rgb = (0.60, 0.25, 0.24)
    brows: Rgb = (0.16, 0.10, 0.07)
    sclera: Rgb = (0.85, 0.83, 0.80)
    iris: Rgb = (0.25, 0.17, 0.10)
    mouth: Rgb = (0.14, 0.03, 0.03)
    scalp: Rgb = (0.16, 0.10, 0.07)
    light: tuple[float, float, float] = (0.3, -0.5, -0.8)
    """Direction towards the light, camera space (x right, y down, z away)."""
    ambient: float = 0.45
    mottle: float = 0.03
    """Strength of the skin's low-frequency variation."""
    iris_radius_rad: float = 0.50
    pupil_radius_rad: float = 0.20
    brow_height_m: float = 0.021
    """Above the centre of the eye."""
    brow_thickness_m: float = 0.0045
    brow_length_m: float = 0.024
    """From the middle of the eye to either end."""
    brow_slope_m: float = -0.002
    """How much higher the outer end is than the middle."""


@dataclass(frozen=True)
class Canvas:
    """What painting needs to know of a head with one shape, in its rest pose."""

    rest: Tensor
    """(V, 3) vertices of the shape without expression."""
    masks: Tensor
    """(V, 4) smooth membership: lips, inner mouth, scalp, eyeball."""
    eye_centres: Tensor
    """(2, 3) left, right."""
    eye_vertices: Tensor
    """(V,) 0 for none, 1 for left, 2 for right."""
    tint: Tensor | None = None
    """(V, 4) linear RGB and opacity laid over the paint (clothes, teeth), or None."""


def make_canvas(model: HeadModel, shape: Tensor) -> Canvas:
    """Canvas of a model for identity coefficients `shape` (S,)."""
    identity = torch.as_tensor(model.identity, dtype=shape.dtype)
    rest = torch.as_tensor(model.v_template, dtype=shape.dtype) + identity @ shape
    count = model.num_vertices
    masks = torch.zeros(count, 4, dtype=shape.dtype)
    eye = torch.zeros(count, dtype=torch.long)
    for column, names in enumerate((("lips",), ("mouth", "tongue"), ("scalp",), ("left_eyeball", "right_eyeball"))):
        for name in names:
            masks[torch.as_tensor(model.regions[name].astype(np.int64)), column] = 1
    for side, name in enumerate(("left_eyeball", "right_eyeball"), start=1):
        eye[torch.as_tensor(model.regions[name].astype(np.int64))] = side
    joints = torch.as_tensor(model.joint_regressor, dtype=shape.dtype) @ rest
    return Canvas(rest, masks, joints[3:5], eye)


def paint(canvas: Canvas, look: Look, pixels: Fragments) -> Tensor:
    """Surface colour (n, 3) before light, linear RGB."""
    rest = pixels.interpolate(canvas.rest)
    masks = pixels.interpolate(canvas.masks)

    def rgb(value: Rgb) -> Tensor:
        return torch.tensor(value, dtype=rest.dtype)

    wave = torch.sin(rest * 95.0 + 1.3).sum(1, keepdim=True) + 0.5 * torch.sin(rest[:, [1, 2, 0]] * 260.0).sum(1, True)
    colour = rgb(look.skin) * (1 + look.mottle * wave)
    colour = torch.lerp(colour, rgb(look.scalp), _step(masks[:, 2:3], 0.6))
    colour = torch.lerp(colour, rgb(look.brows), 0.85 * _brows(canvas, look, rest))
    colour = torch.lerp(colour, rgb(look.lips), _step(masks[:, 0:1], 0.5))
    colour = torch.lerp(colour, rgb(look.mouth), _step(masks[:, 1:2], 0.5))
    side = canvas.eye_vertices[pixels.vertices[:, 0]]
    on_eye = side > 0
    if bool(on_eye.any()):
        outward = torch.nn.functional.normalize(rest[on_eye] - canvas.eye_centres[side[on_eye] - 1], dim=-1)
        angle = torch.arccos(outward[:, 2:3].clamp(-1, 1))
        eye = torch.lerp(rgb(look.sclera).expand(len(angle), 3), rgb(look.iris), _within(angle, look.iris_radius_rad))
        colour[on_eye] = torch.lerp(eye, torch.full_like(eye, 0.02), _within(angle, look.pupil_radius_rad))
    if canvas.tint is not None:
        tint = pixels.interpolate(canvas.tint)
        colour = torch.lerp(colour, tint[:, :3], tint[:, 3:4])
    return colour


def _step(value: Tensor, at: float) -> Tensor:
    return torch.sigmoid((value - at) * 14)


def _within(angle: Tensor, radius: float) -> Tensor:
    return torch.sigmoid((radius - angle) * 50)


def _brows(canvas: Canvas, look: Look, rest: Tensor) -> Tensor:
    """(n, 1) membership of two arcs above the eyes."""
    total = torch.zeros(len(rest), 1, dtype=rest.dtype)
    for centre in canvas.eye_centres:
        outward = (rest[:, 0] - centre[0]) * torch.sign(centre[0])
        along = outward / look.brow_length_m
        height = look.brow_height_m + 0.004 * (1 - along**2) + look.brow_slope_m * along
        distance = (rest[:, 1] - centre[1] - height) / (look.brow_thickness_m * (1 - 0.35 * along).clamp(0.3, 1.3))
        inside = torch.sigmoid((1 - distance.abs()) * 6) * torch.sigmoid((1 - along.abs()) * 12)
        total[:, 0] += inside * (rest[:, 2] > centre[2] - 0.01)
    return total.clamp(max=1)


def light_up(colour: Tensor, normals: Tensor, look: Look, gloss: Tensor | None = None) -> Tensor:
    """Lit colour (n, 3), linear RGB: ambient plus wrapped Lambert, camera-space normals (n, 3), optional highlights."""
    direction = torch.nn.functional.normalize(torch.tensor(look.light, dtype=colour.dtype), dim=0)
    diffuse = ((normals @ direction + 0.3) / 1.3).clamp(min=0)[:, None]
    lit = colour * (look.ambient + (1.15 - look.ambient) * diffuse)
    if gloss is not None:
        half = torch.nn.functional.normalize(direction + torch.tensor([0.0, 0.0, -1.0], dtype=colour.dtype), dim=0)
        lit = lit + gloss * (normals @ half).clamp(min=0)[:, None] ** 40
    return lit


def to_srgb(linear: Tensor) -> Tensor:
    """uint8 sRGB from linear RGB 0..1."""
    return (linear.clamp(0, 1) ** (1 / 2.2) * 255 + 0.5).to(torch.uint8)


def shade(
    canvas: Canvas, look: Look, pixels: Fragments, vertices: Tensor, faces: Tensor, occlusion: Tensor | None = None
) -> Tensor:
    """Painted, lit colour (n, 3) in linear RGB of the pixels of posed vertices (T, V, 3) in camera space.

    occlusion: optional (T, V, 1) 0..1 light that reaches each vertex.
    """
    normals = torch.nn.functional.normalize(pixels.interpolate(vertex_normals(vertices, faces)), dim=-1)
    wet = pixels.interpolate(canvas.masks)[:, 3:4]
    lit = light_up(paint(canvas, look, pixels), normals, look, gloss=0.6 * wet + 0.03)
    return lit if occlusion is None else lit * pixels.interpolate(occlusion)
