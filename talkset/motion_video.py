"""A video of a moving head, shaded, with its sound: what `talkset generate` shows."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from reconstruct.camera import project, vertex_normals
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare
from reconstruct.overlay import posed_vertices
from reconstruct.raster import make_rasterizer
from reconstruct.raster.base import fragments
from reconstruct.video import write_video
from schemas.types import HeadTrack, Int64

UInt8 = NDArray[np.uint8]

SIZE: Final = 384
CHUNK: Final = 16
MARGIN: Final = 1.25
"""Side of the picture over that of the head in it."""
LIGHTS: Final = (((-0.4, -0.5, -0.8), 0.75), ((0.7, -0.1, -0.6), 0.25))
"""(direction to the light in camera space, strength)."""
AMBIENT: Final = 0.22
BACKGROUND: Final = (34, 38, 44)
SKIN: Final = (0.80, 0.61, 0.52)
COLOURS: Final = {
    "lips": (0.70, 0.36, 0.34),
    "mouth": (0.45, 0.20, 0.20),
    "tongue": (0.68, 0.35, 0.36),
    "left_eyeball": (0.92, 0.92, 0.90),
    "right_eyeball": (0.92, 0.92, 0.90),
}
IRIS: Final = (0.16, 0.22, 0.30)
IRIS_SINE: Final = 0.40
"""Half angle of the iris at the eye's centre, as a sine."""


def write_motion_video(
    path: Path,
    track: HeadTrack,
    pts_us: Int64,
    model: HeadModel,
    fps: int,
    sound: tuple[NDArray[np.float32], int] | None = None,
    size: int = SIZE,
) -> None:
    """Write an mp4 of a track from the front, with mono sound (samples, rate). Raises as `write_video` does."""
    pictures = ((int(time), rgb) for time, rgb in zip(pts_us, draw(track, model, size), strict=True))
    write_video(path, pictures, Fraction(fps), sound)


def draw(track: HeadTrack, model: HeadModel, size: int = SIZE) -> Iterator[UInt8]:
    """(size, size, 3) pictures of every frame; the whole head of the first frame fills them."""
    skinning, faces = prepare(model), torch.as_tensor(model.faces)
    colours = torch.as_tensor(vertex_colours(model, track))
    rasterizer = make_rasterizer("warp")
    focal, centre = _framed(posed_vertices(skinning, track, np.zeros(1, np.int64))[0].numpy(), size)
    lights = [(torch.nn.functional.normalize(torch.tensor(where), dim=0), strength) for where, strength in LIGHTS]
    for start in range(0, len(track.valid), CHUNK):
        frames = np.arange(start, min(start + CHUNK, len(track.valid)))
        vertices = posed_vertices(skinning, track, frames)
        pixels = project(vertices, focal, centre)
        shown = fragments(rasterizer.rasterize(pixels, faces, size, size), pixels, faces)
        normal = torch.nn.functional.normalize(shown.interpolate(vertex_normals(vertices, faces)), dim=-1)
        bright = AMBIENT + sum(strength * (normal @ where).clamp(min=0)[:, None] for where, strength in lights)
        colour = (shown.interpolate(colours) * bright).clamp(0, 1) ** (1 / 1.8)
        pictures = torch.as_tensor(BACKGROUND, dtype=torch.uint8).repeat(len(frames), size, size, 1)
        pictures[shown.frame, shown.row, shown.column] = (255 * colour).to(torch.uint8)
        yield from pictures.numpy()


def vertex_colours(model: HeadModel, track: HeadTrack) -> NDArray[np.float32]:
    """(V, 3) linear colours by region; the iris is the front of each eyeball."""
    colours = np.tile(np.asarray(SKIN, np.float32), (model.num_vertices, 1))
    for region, colour in COLOURS.items():
        if region in model.regions:
            colours[model.regions[region]] = colour
    rest = model.v_template + model.identity @ track.shape
    for side, joint in (("left_eyeball", 3), ("right_eyeball", 4)):
        ids = model.regions.get(side)
        if ids is None:
            continue
        away = rest[ids] - model.joint_regressor[joint] @ rest
        sine = np.linalg.norm(away[:, :2], axis=1) / np.maximum(np.linalg.norm(away, axis=1), 1e-9)
        colours[ids[(sine < IRIS_SINE) & (away[:, 2] > 0)]] = IRIS
    return colours


def _framed(vertices: NDArray[np.float32], size: int) -> tuple[float, torch.Tensor]:
    """Focal length and principal point (2,) that put the whole head into the picture."""
    flat = vertices[:, :2] / vertices[:, 2:]
    low, high = flat.min(0), flat.max(0)
    focal = size / (MARGIN * float((high - low).max()))
    return focal, torch.as_tensor(size / 2 - focal * (low + high) / 2)
