"""Pictures of a talker from its head track: head, teeth, hair, shoulders, background and camera noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from reconstruct.camera import project
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import skin
from schemas.types import HeadTrack
from synthetic.shading import bake, draw, gloss_of
from synthetic.talker import Talker
from synthetic.wardrobe import dress, paint_background

CHUNK: Final = 4
NOISE_MARGIN_PX: Final = 64
POSES: Final = ("global_pose", "neck_pose", "jaw_pose", "left_eye_pose", "right_eye_pose")


def render(model: HeadModel, talker: Talker, track: HeadTrack) -> Iterator[NDArray[np.uint8]]:
    """(H, W, 3) sRGB pictures of every frame of a track; the same arguments give the same pictures."""
    dressed = dress(model, track.shape, talker)
    texture = bake(dressed.canvas, talker.look, dressed.faces)
    surface = torch.stack([gloss_of(dressed.canvas), dressed.occlusion[:, 0]], dim=1)
    background = torch.as_tensor(paint_background(talker))
    rng = np.random.default_rng([talker.background_seed, talker.motion_seed, 9])
    size = (talker.height + NOISE_MARGIN_PX, talker.width + NOISE_MARGIN_PX, 3)
    grain = np.rint(talker.noise * rng.normal(size=size)).astype(np.int16)
    shifts = rng.integers(NOISE_MARGIN_PX, size=(len(track.valid), 2))
    shape = torch.as_tensor(track.shape)
    centre = torch.as_tensor(track.principal_point)
    with torch.no_grad():
        for start in range(0, len(track.valid), CHUNK):
            span = slice(start, start + CHUNK)
            expression, translation = torch.as_tensor(track.expression[span]), torch.as_tensor(track.translation[span])
            root, neck, jaw, left, right = (torch.as_tensor(getattr(track, name)[span]) for name in POSES)
            vertices = skin(dressed.skinning, shape, expression, root, neck, jaw, left, right, translation)
            pixels = project(vertices, track.focal_px, centre)
            faces, plain, closed = dressed.faces, dressed.plain, dressed.closed
            drawn = draw(vertices, pixels, faces, plain, closed, texture, surface, talker.look, background)
            for picture, (row, column) in zip(drawn, shifts[span], strict=True):
                noise = grain[row : row + talker.height, column : column + talker.width]
                yield np.clip(picture + noise, 0, 255).astype(np.uint8)
