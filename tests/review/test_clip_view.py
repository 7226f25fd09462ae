"""What the page is told of a clip: curves against known signals, and arrays against the stored ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_builder import build, random_clip, writer
from review_pages import UNEVEN_US, scored, with_times, write_numbered

from reconstruct.models.head_model import HeadModel
from review import clip_view
from talkset.dataset import Clip, open_dataset


def unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    assert data[:4] == clip_view.MAGIC
    length = int.from_bytes(data[4:8], "little")
    assert length % 4 == 0
    return json.loads(data[8 : 8 + length]), data[8 + length :]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("view") / "data"
    build(path)
    return path


def test_landmarks_arrive_as_they_are_stored(root: Path) -> None:
    clip = open_dataset(root)["clip_0001"]
    header, body = unpack(clip_view.landmark_bytes(clip))
    points = np.frombuffer(body, np.float32, np.prod(header["shape"])).reshape(header["shape"])
    np.testing.assert_array_equal(points, clip["face_xy"])
    trust = np.frombuffer(body, np.float32, offset=points.nbytes).reshape(header["shape"][:2])
    np.testing.assert_array_equal(trust, clip["confidence"])


def test_the_mesh_arrives_to_a_hundredth_of_a_millimetre(tmp_path: Path, open_head: HeadModel) -> None:
    record = random_clip(1, clip_view.BLOCK + 6)
    assert record.head is not None
    still = {
        name: np.zeros_like(getattr(record.head, name)) for name in ("left_eye_pose", "right_eye_pose", "neck_pose")
    }
    frames = len(record.head.valid)
    head = dataclasses.replace(
        record.head,
        **still,
        head_model=open_head.name,
        model_sha256=open_head.sha256,
        shape=np.zeros(open_head.num_shape, np.float32),
        expression=np.full((frames, open_head.num_expression), 0.1, np.float32),
        translation=np.tile(np.array([0, 0, 0.8], np.float32), (frames, 1)),
    )
    with writer(tmp_path / "data") as target:
        target.add(dataclasses.replace(scored(record, model_sha256=open_head.sha256), head=head))
        target.finish()
    clip = open_dataset(tmp_path / "data")[0]
    expected = clip.vertices()
    for block in (0, 1):
        header, body = unpack(clip_view.vertex_bytes(clip, block))
        steps = np.frombuffer(body, np.uint16).reshape(header["shape"])
        found = np.array(header["low"]) + np.array(header["step"]) * steps
        part = expected[header["start"] : header["start"] + clip_view.BLOCK]
        known = np.array(header["known"])
        np.testing.assert_array_equal(known, head.valid[header["start"] :][: len(known)])
        assert np.abs(found - part)[known].max() < 1e-5
    with pytest.raises(IndexError):
        clip_view.vertex_bytes(clip, 2)
    header, body = unpack(clip_view.face_bytes(clip))
    np.testing.assert_array_equal(np.frombuffer(body, np.uint32).reshape(header["shape"]), open_head.faces)


def test_the_overview_says_what_the_tables_hold(root: Path) -> None:
    clip = open_dataset(root)["clip_0001"]
    view = clip_view.overview(clip, root)
    json.dumps(view, allow_nan=False)
    assert view["pts_us"] == clip["pts_us"].tolist()
    assert view["worst_frame"] == int(np.nanargmax(clip["nme"]))
    assert [value is None for value in view["curves"]["nme"]] == np.isnan(clip["nme"]).tolist()
    assert view["words"][2]["label"] == "größe"
    assert "is missing" in view["media"]["problem"]


def test_a_rejected_row_has_a_view_without_curves(root: Path) -> None:
    clip = open_dataset(root, where="status == 'rejected'")[0]
    view = clip_view.overview(clip, root)
    assert not view["fitted"]
    assert view["index"]["reason"] == "no_face"
    assert clip_view.slow_curves(clip) == {"problems": []}


def test_times_of_the_video_are_those_of_its_frames(tmp_path: Path) -> None:
    record = scored(with_times(random_clip(0, len(UNEVEN_US)), UNEVEN_US), clip_id="uneven")
    root = write_numbered(tmp_path / "data", [record])
    clip = open_dataset(root)[0]
    facts = clip_view.media_facts(clip, root)
    assert facts == {"pts_us": list(UNEVEN_US), "problem": None}
    (root / "media" / "uneven.mp4").write_bytes(b"damaged")
    assert "damaged" in clip_view.media_facts(clip, root)["problem"]


def test_a_link_out_of_the_data_set_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "data" / "media").mkdir(parents=True)
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (tmp_path / "data" / "media" / "a.mp4").symlink_to(tmp_path / "secret.mp4")
    assert clip_view.media_file(tmp_path / "data", "media", "a") is None
    (tmp_path / "data" / "media" / "b.mp4").write_bytes(b"own")
    assert clip_view.media_file(tmp_path / "data", "media", "b") is not None


def test_second_difference_of_known_motion() -> None:
    time = np.arange(20, dtype=np.float32)
    steady = np.stack([3 * time, -time], -1)[:, None].repeat(5, 1)
    np.testing.assert_allclose(clip_view.second_difference(steady)[1:-1], 0, atol=1e-5)
    bent = np.stack([time**2, 0 * time], -1)[:, None]
    np.testing.assert_allclose(clip_view.second_difference(bent)[1:-1], 2, atol=1e-4)
    assert np.isnan(clip_view.second_difference(bent)[[0, -1]]).all()


def test_mouth_opening_is_lips_over_eyes() -> None:
    points = np.zeros((2, 478, 2), np.float32)
    points[:, 33], points[:, 263] = (0, 0), (100, 0)
    points[1, 14] = (0, 30)
    opening = clip_view.mouth_opening(points)
    assert opening is not None
    np.testing.assert_allclose(opening, [0, 0.3])
    assert clip_view.mouth_opening(np.zeros((2, 99, 2), np.float32)) is None


def test_loudness_of_a_tone_between_silence() -> None:
    rate = 16_000
    sound = np.zeros(rate, np.float32)
    sound[rate // 2 :] = np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate)
    pts = (np.arange(10) * 100_000).astype(np.int64)
    loud = clip_view.loudness_db(sound, rate, pts, 1_000_000)
    np.testing.assert_allclose(loud[:5], clip_view.QUIET_DB)
    np.testing.assert_allclose(loud[5:], -3.01, atol=0.05)


def test_correlation_is_one_for_the_same_and_unknown_for_the_constant() -> None:
    pts = (np.arange(50) * 40_000).astype(np.int64)
    wave = np.sin(np.arange(50) / 3.0)
    np.testing.assert_allclose(clip_view.windowed_correlation(wave, 5 - 2 * wave, pts), -1)
    assert np.isnan(clip_view.windowed_correlation(wave, np.ones(50), pts)).all()


def test_curves_without_the_head_model_come_from_the_landmarks(root: Path) -> None:
    clip: Clip = open_dataset(root)["clip_0000"]
    found = clip_view.slow_curves(clip)
    expected = clip_view.second_difference(clip["face_xy"])
    assert found["jitter_px"][1:-1] == pytest.approx(expected[1:-1], rel=1e-4)
    assert "jitter is that of the landmarks" in found["problems"][0]
