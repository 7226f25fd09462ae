"""Measures of the picture against pictures made to have them."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from reconstruct.decode import coded_bits
from reconstruct.embedding import Embedding
from reconstruct.fingerprint import UNSEEN, face_motion
from reconstruct.landmark_points import landmark_points
from reconstruct.landmarks.lips import lip_shape
from reconstruct.landmarks.topology import LIPS_OUTER, MEDIAPIPE, OUTER_EYE_CORNERS
from reconstruct.models.head_model import HeadModel
from reconstruct.quality import blockiness, head_angles_deg, occlusion, picture_quality, sharpness
from reconstruct.video import write_video
from schemas.types import LandmarkTrack

Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]
SIZE = 320


@pytest.fixture(scope="module")
def points_m(open_head: HeadModel, embedding: Embedding) -> Float64:
    return np.asarray(landmark_points(open_head, embedding).template.numpy(), np.float64)


def rotation(yaw: float, pitch: float, roll: float) -> Float64:
    """Camera axes: yaw about y, then pitch about x, then roll about z, degrees."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y)


def seen_from(points_m: Float64, turn: Float64, px_per_m: float = 1000.0) -> Float64:
    camera = points_m * [1, -1, -1] @ turn.T
    return np.asarray(camera[:, :2] * px_per_m + SIZE / 2)


def track_of(points: Float64, step_us: int = 40_000) -> LandmarkTrack:
    valid = np.isfinite(points).all(axis=(1, 2))
    ones = np.where(valid[:, None], 1.0, np.nan) * np.ones(points.shape[1])
    pts = np.arange(len(points), dtype=np.int64) * step_us
    xy = points.astype(np.float32)
    return LandmarkTrack(pts, xy, ones.astype(np.float32), valid, SIZE, SIZE, "mediapipe 0.10.21")


@pytest.mark.parametrize("angles", [(0, 0, 0), (35, 0, 0), (-50, 10, 0), (0, -25, 0), (0, 0, 30), (20, 15, -10)])
def test_known_angles_of_the_head_are_found(points_m: Float64, angles: tuple[float, float, float]) -> None:
    found = head_angles_deg(seen_from(points_m, rotation(*angles))[np.newaxis], points_m, MEDIAPIPE)[0]
    truth = rotation(*angles)
    yaw, pitch, roll = np.radians(found)
    forward = truth @ [0, 0, -1]  # where the face looks
    assert math.sin(yaw) == pytest.approx(float(forward[0]), abs=0.01)
    if angles[1] == angles[2] == 0:
        assert found[1] == pytest.approx(0, abs=0.5)
        assert found[2] == pytest.approx(0, abs=0.5)
    if angles[0] == angles[1] == 0:
        assert roll == pytest.approx(math.radians(angles[2]), abs=0.01)
    assert np.sign(found[1]) == np.sign(-forward[1]) or abs(found[1]) < 1
    assert pitch == pytest.approx(math.atan2(-forward[1], -forward[2]), abs=0.01) or angles[2] != 0


def test_turning_the_head_does_not_move_the_lips(points_m: Float64) -> None:
    frames = [seen_from(points_m, rotation(yaw, yaw / 3, yaw / 2), 900 + 5 * yaw) for yaw in np.linspace(-12, 12, 13)]
    still = lip_shape(track_of(np.stack(frames)))
    assert np.ptp(still, axis=0).max() < 0.02
    opened = np.stack(frames)
    unit = np.linalg.norm(np.diff(opened[6, OUTER_EYE_CORNERS], axis=0))
    opened[6, LIPS_OUTER[1:10], 1] += 0.1 * unit
    shape = lip_shape(track_of(opened))
    assert shape[6, 0] - np.median(shape[:, 0]) == pytest.approx(0.1, abs=0.01)
    opened[3] = np.nan
    assert np.isnan(lip_shape(track_of(opened))[3]).all()


def textured(seed: int = 0, side: int = SIZE) -> UInt8:
    rng = np.random.default_rng(seed)
    layers = np.zeros((side, side))
    for spread in (1.2, 5.0, 20.0):
        layer = cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), spread)
        layers += layer / layer.std()
    grey = 60 + 120 * (layers - layers.min()) / np.ptp(layers)
    return np.asarray(grey, np.uint8)


def test_sharpness_falls_with_blur_and_not_with_contrast_or_size() -> None:
    face = cv2.resize(textured(), (112, 112), interpolation=cv2.INTER_AREA)
    values = [sharpness(np.asarray(cv2.GaussianBlur(face, (0, 0), s), np.uint8)) for s in (0.1, 1.0, 2.0)]
    assert all(b < 0.8 * a for a, b in itertools.pairwise(values))
    faint = np.asarray(100 + 0.4 * (face.astype(np.float64) - face.mean()), np.uint8)
    assert sharpness(faint) == pytest.approx(values[0], rel=0.1)


def test_blocks_are_found_where_a_codec_left_them() -> None:
    picture = textured()
    assert blockiness(picture) == pytest.approx(1.0, abs=0.1)
    found = []
    for quality in (60, 20, 5):
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert done
        found.append(blockiness(np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)))
    assert found[0] < found[1] < found[2]
    assert found[2] > 1.8
    assert blockiness(np.full((64, 64), 7, np.uint8)) < 1.01


def test_a_hand_before_the_face_is_hinted_at() -> None:
    face = cv2.resize(textured(3), (40, 40))
    rng = np.random.default_rng(0)
    lit = [face * rng.uniform(0.8, 1.2) + rng.normal(0, 3, face.shape) for _ in range(20)]
    patches = np.clip(np.stack(lit), 0, 255)
    patches[12:15, 14:] = 15
    found = occlusion(patches.astype(np.uint8))
    assert found[12:15].min() > 0.5
    assert np.delete(found, [12, 13, 14]).max() < 0.1


def test_a_clip_has_all_measures_and_holes_stay_holes(points_m: Float64) -> None:
    points = np.stack([seen_from(points_m, rotation(5, 0, 0))] * 8)
    points[2] = np.nan
    grey = textured(1)
    pictures = [np.repeat(grey[..., None], 3, 2)] * 7 + [np.full((SIZE, SIZE, 3), 254, np.uint8)]
    found = picture_quality(((i * 40_000, rgb) for i, rgb in enumerate(pictures)), track_of(points), points_m)
    assert all(math.isnan(values[2]) for values in found.values())
    seen = np.delete(np.arange(8), 2)
    assert np.isfinite(np.stack([values[seen] for name, values in found.items() if name != "blockiness"])).all()
    low, high = points[0].min(axis=0), points[0].max(axis=0)
    assert found["face_px"][0] == pytest.approx(math.sqrt(float(np.prod(high - low))), rel=1e-5)
    assert found["yaw_deg"][0] == pytest.approx(5, abs=0.5)
    assert found["burnt"][7] == 1
    assert found["burnt"][0] < 0.05
    assert found["brightness"][7] == pytest.approx(254 / 255)
    none = picture_quality(iter(()), track_of(np.full((3, 478, 2), np.nan)), points_m)
    assert np.isnan(np.stack(list(none.values()))).all()


def test_bits_are_those_of_the_packets(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    rng = np.random.default_rng(0)
    frames = ((i * 40_000, rng.integers(0, 255, (64, 64, 3), np.uint8)) for i in range(100))
    write_video(path, frames, Fraction(25))
    times, bits = coded_bits(path, 0, 4_000_000)
    assert times.tolist() == [i * 40_000 for i in range(100)]
    assert 0.9 * path.stat().st_size < bits.sum() / 8 < path.stat().st_size
    part_times, part = coded_bits(path, 2_000_000, 3_000_000)
    assert part_times.tolist() == times[50:75].tolist()
    assert part.tolist() == bits[50:75].tolist()


def test_motion_does_not_change_with_the_picture(points_m: Float64) -> None:
    rng = np.random.default_rng(0)
    count = 75
    sway = np.convolve(rng.normal(size=count + 20), np.hanning(15), "same")[10:-10]
    opening = np.abs(np.convolve(rng.normal(size=count + 20), np.hanning(7), "same"))[10:-10]
    points = np.stack([seen_from(points_m, rotation(2 * s, 0, s)) for s in sway])
    points[:, :, 1] += sway[:, np.newaxis] * 2
    points[:, LIPS_OUTER[1:10], 1] += 4 * opening[:, np.newaxis]
    known = face_motion(track_of(points))
    flipped = points[:, MEDIAPIPE.mirror] * [-1, 1] + [SIZE, 0]
    changed = face_motion(track_of(0.6 * flipped - 13))
    for column in range(2):
        assert np.corrcoef(known[:, column], changed[:, column])[0, 1] > 0.97
    other_rate = face_motion(track_of(points[::2], 80_000))
    assert np.corrcoef(known[: len(other_rate), 1], other_rate[:, 1])[0, 1] > 0.95
    points[20:30] = np.nan
    holed = face_motion(track_of(points))
    assert (holed[22:28] == UNSEEN).all()
    assert (holed[:18] != UNSEEN).all()
    assert len(face_motion(track_of(np.full((4, 478, 2), np.nan)))) == 0
