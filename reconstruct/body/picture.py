"""Pictures of a body model: skin, cloth, hair and face in plain colours, so that detectors see a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.appearance import Rgb, to_srgb
from reconstruct.camera import project, vertex_normals
from reconstruct.models.body_model import BodyModel, joint
from reconstruct.models.skinning import SkinningModel, prepare, skin_joints
from reconstruct.raster import fragments, make_rasterizer

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
CHUNK: Final = 8


@dataclass(frozen=True)
class BodyLook:
    """Colours (linear RGB) and light of a rendered body."""

    skin: Rgb = (0.62, 0.41, 0.31)
    cloth: Rgb = (0.05, 0.10, 0.20)
    trousers: Rgb = (0.06, 0.06, 0.07)
    hair: Rgb = (0.05, 0.03, 0.02)
    lips: Rgb = (0.50, 0.20, 0.19)
    background: Rgb = (0.30, 0.32, 0.34)
    light: tuple[float, float, float] = (0.35, -0.6, -0.75)
    """Direction to the light, camera space."""
    ambient: float = 0.4
    sleeves: bool = True
    """Whether the sleeves reach the wrists."""
    noise: float = 1.5
    """Standard deviation of the camera's noise, steps of 8-bit sRGB."""


def colours_of(model: BodyModel, look: BodyLook) -> Tensor:
    """(V, 3) linear RGB: cloth below the neck but for the hands, hair on the scalp, lips, eyes, brows."""
    place = model.v_template.astype(np.float64)
    joints = model.joint_regressor.astype(np.float64) @ place
    weights = model.weights
    colour = np.tile(np.array(look.skin), (len(place), 1))
    hands = weights[:, [20, 21, *range(25, 55)]].sum(1) > 0.5
    head = weights[:, [12, 15, 22, 23, 24]].sum(1) > 0.5
    cloth = ~hands & ~head
    if not look.sleeves:
        arm = np.abs(place[:, 0]) > 0.5 * (joints[16, 0] + joints[18, 0])
        cloth &= ~arm
    colour[cloth] = look.cloth
    colour[cloth & (place[:, 1] < joints[0, 1])] = look.trousers
    regions = model.regions
    if "scalp" in regions:
        colour[regions["scalp"]] = look.hair
        colour[regions["lips"]] = look.lips
        for side in ("left", "right"):
            ball = regions[f"{side}_eyeball"]
            centre = joints[joint(f"{side}_eye")]
            towards = place[ball] - centre
            front = towards[:, 2] / np.maximum(np.linalg.norm(towards, axis=1), 1e-9)
            colour[ball] = (0.8, 0.78, 0.75)
            colour[ball[front > 0.87]] = (0.08, 0.05, 0.03)
            skin = np.setdiff1d(regions["face"], regions["eyelids"])
            away = place[skin] - centre
            brow = (np.abs(away[:, 1] - 0.021) < 0.004) & (np.abs(away[:, 0]) < 0.018)
            colour[skin[brow]] = look.hair
        colour[regions["mouth"]] = (0.12, 0.03, 0.03)
    return torch.as_tensor(colour, dtype=torch.float32)


def render_body(
    model: BodyModel,
    betas: Float32,
    poses: Float32,
    translation: Float32,
    focal_px: float,
    centre: Float32,
    width: int,
    height: int,
    look: BodyLook | None = None,
    seed: int = 0,
    expression: Float32 | None = None,
) -> Iterator[UInt8]:
    """Pictures (height, width, 3) of T frames, one after the other.

    Args: betas (S,); poses (T, 55, 3) axis-angle, the root's into the camera; translation (T, 3) metres; expression
    (T, E), neutral by default. Two samples a pixel and side; Gaussian noise by `seed`.
    """
    look = look or BodyLook()
    skinning: SkinningModel = prepare(model)
    faces = torch.as_tensor(model.faces)
    colours = colours_of(model, look)
    light = torch.nn.functional.normalize(torch.tensor(look.light), dim=0)
    rng = np.random.default_rng([seed, 3])
    rasterizer = make_rasterizer("warp")
    if expression is None:
        expression = np.zeros((len(poses), model.num_expression), np.float32)
    for start in range(0, len(poses), CHUNK):
        rows = slice(start, start + CHUNK)
        vertices = skin_joints(
            skinning,
            torch.as_tensor(betas, dtype=torch.float32),
            torch.as_tensor(expression[rows], dtype=torch.float32),
            torch.as_tensor(poses[rows], dtype=torch.float32),
            torch.as_tensor(translation[rows], dtype=torch.float32),
        )
        pixels = project(vertices, 2 * focal_px, torch.as_tensor(centre, dtype=torch.float32) * 2)
        ids = rasterizer.rasterize(pixels, faces, 2 * height, 2 * width)
        front = fragments(ids, pixels, faces)
        normal = torch.nn.functional.normalize(front.interpolate(vertex_normals(vertices, faces)), dim=1)
        diffuse = ((normal @ light + 0.3) / 1.3).clamp(min=0)
        shade = look.ambient + (1.15 - look.ambient) * diffuse
        picture = torch.tensor(look.background).expand(len(vertices), 2 * height, 2 * width, 3).contiguous()
        picture[front.frame, front.row, front.column] = front.interpolate(colours) * shade[:, None]
        small = picture.reshape(len(vertices), height, 2, width, 2, 3).mean((2, 4))
        for frame in to_srgb(small).numpy():
            noisy = frame.astype(np.float32) + look.noise * rng.normal(size=frame.shape).astype(np.float32)
            yield np.clip(np.round(noisy), 0, 255).astype(np.uint8)
