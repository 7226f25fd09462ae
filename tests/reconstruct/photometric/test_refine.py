"""The photometric stage on a rendered head with known truth: better than the start, robust, and quiet without data."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reconstruct.camera import project
from reconstruct.embedding import Embedding
from reconstruct.fit import fit_clip
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare, skin
from reconstruct.photometric.refine import refine_clip
from schemas.config import FitConfig, PhotometricConfig
from schemas.errors import TalksetError
from schemas.types import HEAD_ARRAYS, HeadTrack, LandmarkTrack
from synthetic.evaluate import compare
from synthetic.make import perform
from synthetic.render import render
from synthetic.talker import random_talker

FRAMES = 8
POSES = ("expression", "global_pose", "neck_pose", "jaw_pose", "left_eye_pose", "right_eye_pose", "translation")
CONFIG = FitConfig(photometric=PhotometricConfig(key_frames=8, iterations=8, size_px=192))


@dataclasses.dataclass(frozen=True)
class Recording:
    truth: HeadTrack
    pictures: list[NDArray[np.uint8]]
    landmarks: LandmarkTrack
    """Of a detector that errs by some millimetres, in all frames alike."""
    start: HeadTrack
    """The landmark fit."""


@pytest.fixture(scope="module")
def recording(open_head: HeadModel, embedding: Embedding) -> Recording:
    talker = random_talker(31, 320, 320)
    performed = perform(talker, open_head)[0]
    whole = performed.track
    rows = np.linspace(5, len(whole.valid) - 5, FRAMES).astype(int)
    clock = performed.pts_us[rows] - performed.pts_us[rows[0]]
    per_frame = (name for name in HEAD_ARRAYS if len(getattr(whole, name)) == len(whole.valid))
    truth = dataclasses.replace(whole, **{name: getattr(whole, name)[rows] for name in per_frame})
    random = np.random.default_rng(4)
    arguments = [torch.as_tensor(getattr(truth, name)) for name in POSES]
    vertices = skin(prepare(open_head), torch.as_tensor(truth.shape), *arguments).numpy()
    points = (embedding.barycentric[:, :, None] * vertices[:, embedding.vertices]).sum(2)
    pixels = project(torch.as_tensor(points).float(), truth.focal_px, torch.as_tensor(truth.principal_point))[..., :2]
    rest = (embedding.barycentric[:, :, None] * open_head.v_template[embedding.vertices]).sum(1)
    aside = 1.5 * np.sin(rest @ random.normal(0, 40, (3, 2)) + random.uniform(0, 6, 2))
    found = (pixels.numpy() + aside + 0.1 * random.normal(size=pixels.shape)).astype(np.float32)
    ones = np.ones(found.shape[:2], np.float32)
    landmarks = LandmarkTrack(clock, found, ones, np.ones(FRAMES, bool), 320, 320, embedding.detector)
    start = fit_clip(open_head, embedding, landmarks, FitConfig())
    return Recording(truth, list(render(open_head, talker, truth)), landmarks, start)


def test_the_result_is_closer_to_the_truth(open_head: HeadModel, embedding: Embedding, recording: Recording) -> None:
    head, report = refine_clip(open_head, embedding, recording.landmarks, recording.start, recording.pictures, CONFIG)
    before, after = (compare(recording.truth, track, open_head) for track in (recording.start, head))
    assert report.refined
    assert after.vertex_mm < 0.75 * before.vertex_mm
    assert after.head_centred_deg < before.head_centred_deg
    assert np.nanmean(report.psnr_after) > np.nanmean(report.psnr_before) + 1
    assert report.light.shape == (9,)
    assert report.albedo.shape == report.vertices.shape


def test_an_occluder_changes_little(open_head: HeadModel, embedding: Embedding, recording: Recording) -> None:
    """A blue bar over the left cheek in half of the frames."""
    covered = [picture.copy() for picture in recording.pictures]
    for picture, points in zip(covered[::2], recording.landmarks.face_xy[::2], strict=True):
        x, y = points[425].round().astype(int)
        picture[y - 16 : y + 16, x - 8 : x + 20] = (40, 60, 160)
    head, _ = refine_clip(open_head, embedding, recording.landmarks, recording.start, covered, CONFIG)
    before, after = (compare(recording.truth, track, open_head) for track in (recording.start, head))
    assert after.vertex_mm < 0.8 * before.vertex_mm


def test_pixels_that_tell_nothing_change_nothing(
    open_head: HeadModel, embedding: Embedding, recording: Recording
) -> None:
    grey = [np.full((320, 320, 3), 120, np.uint8)] * FRAMES
    head, report = refine_clip(open_head, embedding, recording.landmarks, recording.start, grey, CONFIG)
    assert not report.refined
    assert head is recording.start


def test_frames_that_are_not_valid_stay_empty(open_head: HeadModel, embedding: Embedding, recording: Recording) -> None:
    points, valid = recording.landmarks.face_xy.copy(), recording.landmarks.valid.copy()
    points[3], valid[3] = np.nan, False
    landmarks = dataclasses.replace(recording.landmarks, face_xy=points, valid=valid)
    translation = recording.start.translation.copy()
    translation[3] = np.nan
    start = dataclasses.replace(recording.start, valid=valid, translation=translation)
    quick = FitConfig(photometric=PhotometricConfig(key_frames=3, iterations=2, size_px=96))
    head, report = refine_clip(open_head, embedding, landmarks, start, recording.pictures, quick)
    assert np.isnan(head.translation[3]).all()
    assert np.isnan(report.psnr_after[3])
    assert np.isfinite(np.delete(head.translation, 3, 0)).all()


def test_a_head_of_another_model_is_refused(open_head: HeadModel, embedding: Embedding, recording: Recording) -> None:
    other = dataclasses.replace(recording.start, model_sha256="0" * 64)
    with pytest.raises(TalksetError, match="not a fit"):
        refine_clip(open_head, embedding, recording.landmarks, other, recording.pictures, CONFIG)
