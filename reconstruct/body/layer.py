"""The body in an overlay: its mesh over the picture, landmarks of body and hands on top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from reconstruct.body.fit import body_poses
from reconstruct.camera import project
from reconstruct.models.body_model import BodyModel
from reconstruct.models.skinning import SkinningModel, prepare, skin_joints
from reconstruct.raster import make_rasterizer
from schemas.types import BodyLandmarks, BodyTrack, HeadTrack

UInt8 = NDArray[np.uint8]
MESH_RGB: Final = (0.55, 0.80, 0.62)
UNSEEN_RGB: Final = (0.62, 0.60, 0.58)
"""Of limbs that nothing was observed of."""
OPACITY: Final = 0.5
LIGHT: Final = torch.nn.functional.normalize(torch.tensor([-0.3, -0.5, -0.8]), dim=0)
POSE_RGB, LEFT_RGB, RIGHT_RGB = (90, 255, 90), (255, 230, 60), (255, 80, 80)


@dataclass(frozen=True)
class BodyLayer:
    """What is drawn of a fitted body."""

    model: BodyModel
    skinning: SkinningModel
    poses: NDArray[np.float32]
    """(T, 55, 3)"""
    track: BodyTrack
    landmarks: BodyLandmarks

    @classmethod
    def of(
        cls, model: BodyModel, track: BodyTrack, landmarks: BodyLandmarks, head: HeadTrack | None = None
    ) -> BodyLayer:
        """The layer of a clip; jaw and eyes are those of the head where one is given."""
        return cls(model, prepare(model), body_poses(track, head).astype(np.float32), track, landmarks)

    def draw(self, picture: UInt8, index: int, scale: float) -> UInt8:
        """The picture (rgb, source pixels times `scale`) with mesh and landmarks of frame `index`."""
        picture = picture.copy()
        if np.isfinite(self.track.body_translation[index]).all():
            self._mesh(picture, index, scale)
        for points, colour in (
            (self.landmarks.pose_xyc[index], POSE_RGB),
            (self.landmarks.left_hand_xyc[index], LEFT_RGB),
            (self.landmarks.right_hand_xyc[index], RIGHT_RGB),
        ):
            known = np.isfinite(points).all(1) & (points[:, 2] > 0.5)
            for x, y in np.floor(points[known, :2] * scale).astype(int).tolist():
                picture[max(y - 1, 0) : y + 1, max(x - 1, 0) : x + 1] = colour
        return picture

    def _mesh(self, picture: UInt8, index: int, scale: float) -> None:
        vertices = skin_joints(
            self.skinning,
            torch.as_tensor(self.track.betas),
            torch.zeros(1, self.model.num_expression),
            torch.as_tensor(self.poses[[index]]),
            torch.as_tensor(self.track.body_translation[[index]]),
        )
        faces = torch.as_tensor(self.model.faces)
        pixels = project(vertices, self.track.focal_px * scale, torch.as_tensor(self.track.principal_point) * scale)
        ids = make_rasterizer("warp").rasterize(pixels, faces, *picture.shape[:2])[0].numpy()
        corners = vertices[0, faces.long()]
        normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        facing = torch.nn.functional.normalize(normal, dim=-1) @ LIGHT
        bright = (0.25 + 0.75 * ((facing + 0.25) / 1.25).clamp(0, 1)).numpy()
        owner = self.model.weights[self.model.faces[:, 0]].argmax(1)
        seen = self.track.body_joint_valid[index][owner]
        colour = np.where(seen[:, None], MESH_RGB, UNSEEN_RGB) * bright[:, None] * 255 * OPACITY
        covered = ids >= 0
        picture[covered] = (picture[covered] * (1 - OPACITY) + colour[ids[covered]]).astype(np.uint8)
