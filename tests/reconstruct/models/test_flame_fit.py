"""From a FLAME file to fitted codes: landmarks projected from known codes are found again."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from flame_files import fake_flame, flame_model

from reconstruct.camera import image_centre, project
from reconstruct.embedding import Embedding
from reconstruct.fit import fit_clip
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare, skin
from schemas.config import FitConfig
from schemas.types import LandmarkTrack


def test_a_clip_fits_with_a_flame_model(open_head: HeadModel, embedding: Embedding) -> None:
    """Landmarks projected from known codes; the embedding is the open head's, carried over by nearest points."""
    model = flame_model()
    fake, random, frames = fake_flame(), np.random.default_rng(1), 12
    places = (embedding.barycentric[:, :, None] * open_head.v_template[embedding.vertices].astype(float)).sum(1)
    balls = np.concatenate([open_head.regions["left_eyeball"], open_head.regions["right_eyeball"]])
    triangle, weights = fake.embed(places, np.isin(embedding.vertices, balls).all(1))
    own = dataclasses.replace(
        embedding,
        model_sha256=model.sha256,
        vertices=model.faces[triangle].astype(np.int64),
        barycentric=weights.astype(np.float32),
    )
    wave = np.sin(np.arange(frames)[:, None] / 4 + random.uniform(0, 6, 10))
    shape, codes = np.zeros(300), np.zeros((frames, 100))
    shape[:20] = random.normal(0, 0.6, 20)
    for place, name in enumerate(("mouthSmileLeft", "mouthSmileRight", "browInnerUp", "mouthPucker")):
        codes[:, fake.expressions.index(name)] = 0.3 + 0.2 * wave[:, place]
    jaw, gaze = np.zeros((frames, 3)), np.zeros((frames, 3))
    jaw[:, 0], gaze[:, :2] = 0.15 + 0.1 * wave[:, 4], 0.15 * wave[:, 5:7]
    pose = np.concatenate([np.pi + 0 * wave[:, :1], 0.15 * wave[:, 7:9]], axis=1)
    zero = np.zeros((frames, 3))
    arguments = [shape, codes, pose, zero, jaw, gaze, gaze, np.tile([0, 0.2, 0.85], (frames, 1))]
    vertices = skin(prepare(model, dtype=torch.float64), *map(torch.as_tensor, arguments)).numpy()
    points = (own.barycentric[:, :, None] * vertices[:, own.vertices]).sum(2)
    pixels = project(torch.as_tensor(points), 900.0, torch.as_tensor(image_centre(640, 480)))[..., :2].float().numpy()
    track = LandmarkTrack(
        pts_us=np.arange(frames, dtype=np.int64) * 40_000,
        face_xy=pixels,
        confidence=np.ones(pixels.shape[:2], np.float32),
        valid=np.ones(frames, bool),
        width=640,
        height=480,
        detector=embedding.detector,
    )
    head = fit_clip(model, own, track, FitConfig())
    assert (head.head_model, head.model_sha256) == ("flame2020", model.sha256)
    assert head.shape.shape == (300,)
    assert head.expression.shape == (frames, 100)
    assert float(head.nme.mean()) < 0.01
    assert np.degrees(np.abs(head.jaw_pose[:, 0] - jaw[:, 0])).mean() < 3
    assert np.degrees(np.abs(head.left_eye_pose[:, :2] - gaze[:, :2])).mean() < 4
