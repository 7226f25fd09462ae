"""Overlays of a talker whose head is known: same frames and sound, and the mesh where the face is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reconstruct.camera import project
from reconstruct.embedding import Embedding
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare
from reconstruct.overlay import posed_vertices, render_overlay
from reconstruct.video import frames, probe, read_audio, write_video
from schemas.config import OverlayConfig
from schemas.errors import TalksetError
from schemas.types import HeadTrack, LandmarkTrack
from synthetic.make import load_truth, make_talker
from synthetic.talker import random_talker

SIZE = 160
FIRST, COUNT = 5, 18
"""The clip within the video, and more frames than are drawn at once."""
UNSEEN = slice(8, 11)
"""Frames of the clip that are not valid."""
CONFIG = OverlayConfig(height=SIZE, crf=10)


@dataclass(frozen=True)
class Scene:
    """A video, the clip that starts at its frame FIRST, and its overlay."""

    video: Path
    start_us: int
    head: HeadTrack
    landmarks: LandmarkTrack
    pixels: NDArray[np.float32]
    """(T, V, 2) where the vertices of the head are in the picture."""
    overlay: Path


@pytest.fixture(scope="module")
def scene(open_head: HeadModel, embedding: Embedding, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("overlay")
    talker = dataclasses.replace(random_talker(1, SIZE, SIZE), text="Buy maps.")
    files = make_talker(talker, folder, folder, open_head)
    truth = load_truth(files.track, files.labels)
    chosen = slice(FIRST, FIRST + COUNT)
    values: dict[str, Any] = {
        name: value[chosen].copy()
        for name, value in vars(truth.track).items()
        if isinstance(value, np.ndarray) and len(value) == len(truth.pts_us)
    }
    head = dataclasses.replace(truth.track, **values)
    vertices = posed_vertices(prepare(open_head), head, np.arange(COUNT))
    pixels = project(vertices, head.focal_px, torch.as_tensor(head.principal_point))[..., :2].numpy()
    for name, value in values.items():
        value[UNSEEN] = False if name == "valid" else np.nan
    head = dataclasses.replace(truth.track, **values)
    points = (embedding.barycentric[:, :, None] * pixels[:, embedding.vertices]).sum(2)
    points[UNSEEN] = np.nan
    start_us = int(truth.pts_us[FIRST])
    trust = np.where(head.valid[:, None], np.ones(points.shape[:2]), np.nan).astype(np.float32)
    landmarks = LandmarkTrack(
        truth.pts_us[chosen] - start_us, points.astype(np.float32), trust, head.valid, SIZE, SIZE, "truth"
    )
    overlay = folder / "overlay.mp4"
    render_overlay(files.video, start_us, head, landmarks, open_head, overlay, CONFIG)
    return Scene(files.video, start_us, head, landmarks, pixels, overlay)


def halves(overlay: Path) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The original and the drawn picture of every frame, without the rows that carry the caption."""
    shown = [picture.astype(float) for _, picture in frames(overlay)]
    width = shown[0].shape[1] // 2
    rows = round(0.93 * shown[0].shape[0])
    return [(picture[:rows, :width], picture[:rows, width:]) for picture in shown]


def hull(points: NDArray[np.float32], size: int, grow: int) -> NDArray[np.bool_]:
    """Pixels inside the convex hull of points, grown or shrunk by so many pixels."""
    mask = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.floor(points).astype(np.int32)), 1)
    kernel = np.ones((2 * abs(grow) + 1,) * 2, np.uint8)
    return np.asarray(cv2.dilate(mask, kernel) if grow > 0 else cv2.erode(mask, kernel)) > 0


def test_frames_times_and_size_are_those_of_the_clip(scene: Scene) -> None:
    shown = list(frames(scene.overlay))
    assert [pts for pts, _ in shown] == scene.landmarks.pts_us.tolist()
    assert {picture.shape for _, picture in shown} == {(SIZE, 2 * SIZE, 3)}
    assert probe(scene.overlay).duration_us == pytest.approx(COUNT * 40_000, abs=1000)


def test_the_left_half_is_the_original(scene: Scene) -> None:
    original = [picture.astype(float) for _, picture in frames(scene.video)][FIRST : FIRST + COUNT]
    for (left, _), source in zip(halves(scene.overlay), original, strict=True):
        assert np.abs(left - source[: len(left)]).mean() < 2.5


def test_the_sound_is_that_of_the_clip_and_in_sync(scene: Scene) -> None:
    end_us = scene.start_us + COUNT * 40_000
    source, drawn = read_audio(scene.video, scene.start_us, end_us), read_audio(scene.overlay, 0, COUNT * 40_000)
    assert source is not None
    assert drawn is not None
    assert source[1] == drawn[1]
    first, second = (samples.mean(axis=0).astype(float) for samples, _ in (source, drawn))
    assert np.abs(first).max() > 0.05
    lags = np.arange(-800, 801)  # 50 ms either way
    middle = first[800:-800]
    alike = [float(np.dot(middle, second[800 + lag : 800 + lag + len(middle)])) for lag in lags]
    assert abs(lags[int(np.argmax(alike))]) <= 16  # 1 ms
    power = np.linalg.norm(middle) * np.linalg.norm(second[800:-800])
    assert max(alike) / power > 0.95


def test_the_mesh_covers_the_face_and_nothing_beside_the_head(scene: Scene, open_head: HeadModel) -> None:
    drawn = halves(scene.overlay)
    for index in np.flatnonzero(scene.head.valid):
        left, right = drawn[index]
        changed = np.abs(right - left).max(axis=2)
        face = hull(scene.pixels[index][open_head.regions["face"]], SIZE, -3)[: len(left)]
        beside = ~hull(scene.pixels[index], SIZE, 4)[: len(left)]
        assert face.sum() > 700
        assert beside.sum() > 3000
        assert (changed[face] > 12).mean() > 0.95
        assert (changed[beside] < 12).mean() > 0.995


def test_a_frame_without_a_face_shows_no_mesh(scene: Scene) -> None:
    drawn = halves(scene.overlay)
    change = np.array([np.abs(right - left).mean() for left, right in drawn])
    assert change[UNSEEN].max() < 1.5
    assert change[scene.head.valid].min() > 3


def test_the_picture_is_scaled_with_its_mesh(scene: Scene, open_head: HeadModel, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, height=240)
    render_overlay(scene.video, scene.start_us, scene.head, scene.landmarks, open_head, tmp_path / "o.mp4", config)
    drawn = halves(tmp_path / "o.mp4")
    assert drawn[0][0].shape[1] == 240
    left, right = drawn[0]
    face = hull(1.5 * scene.pixels[0][open_head.regions["face"]], 240, -4)[: len(left)]
    beside = ~hull(1.5 * scene.pixels[0], 240, 6)[: len(left)]
    changed = np.abs(right - left).max(axis=2)
    assert (changed[face] > 12).mean() > 0.95
    assert (changed[beside] < 12).mean() > 0.995


@pytest.mark.parametrize("change", ["moved", "dropped", "cut"])
def test_a_source_that_changed_is_corrupt_data(scene: Scene, open_head: HeadModel, tmp_path: Path, change: str) -> None:
    shown = [(pts + 4000 * (change == "moved" and pts > 400_000), rgb) for pts, rgb in frames(scene.video)]
    if change == "dropped":
        del shown[FIRST + 3]
    if change == "cut":
        del shown[FIRST + COUNT - 3 :]
    write_video(tmp_path / "v.mp4", shown, probe(scene.video).fps)
    with pytest.raises(TalksetError, match=r"not where it was fitted|were fitted") as caught:
        render_overlay(
            tmp_path / "v.mp4", scene.start_us, scene.head, scene.landmarks, open_head, tmp_path / "o.mp4", CONFIG
        )
    assert caught.value.reason == "corrupt_data"
    assert not (tmp_path / "o.mp4").exists()
