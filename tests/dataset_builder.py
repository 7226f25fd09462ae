"""A small data set with known random values, for the tests of everything that reads or writes one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from schemas.config import ShardConfig
from schemas.records import ClipRecord
from schemas.shards import DatasetWriter
from schemas.types import EmotionTrack, Event, HeadTrack, Interval, LandmarkTrack, Style, Transcription

MODEL_HASH = "ab" * 32


def random_clip(number: int, frames: int | None = None, fps: int = 25, speaker: str | None = None) -> ClipRecord:
    """An accepted clip; a third of the frames of odd clips is not valid; every fourth has no diagnostics and labels."""
    rng = np.random.default_rng(number)
    frames = frames if frames is not None else 20 + 5 * (number % 4)
    pts = np.round(np.arange(frames) * 1e6 / fps).astype(np.int64)
    duration = round(frames * 1e6 / fps)
    valid = np.ones(frames, bool)
    valid[1::3] = number % 2 == 0

    def track(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    head = HeadTrack(
        head_model="open-head",
        model_sha256=MODEL_HASH,
        shape=track(80),
        expression=track(frames, 52),
        global_pose=0.3 * track(frames, 3),
        neck_pose=0.3 * track(frames, 3),
        jaw_pose=0.3 * track(frames, 3),
        left_eye_pose=0.3 * track(frames, 3),
        right_eye_pose=0.3 * track(frames, 3),
        translation=track(frames, 3),
        focal_px=float(rng.uniform(300, 900)),
        principal_point=np.array([180, 144], np.float32),
        valid=valid,
        residual_px=np.where(valid, np.abs(track(frames)), np.nan).astype(np.float32),
        nme=np.where(valid, np.abs(track(frames)), np.nan).astype(np.float32),
    )
    late = np.random.default_rng([number, 1])  # what came later leaves the other values as they were
    if number % 4 != 3:
        wobble = [np.where(valid, late.uniform(0, 3, frames), np.nan).astype(np.float32) for _ in range(3)]
        head = dataclasses.replace(head, held_out_nme=wobble[0], uncertainty_mm=wobble[1], at_limit=wobble[2].round())
    scores = np.where(valid[:, None], late.uniform(0, 1, (frames, 52)), np.nan).astype(np.float32)
    xy = np.where(valid[:, None, None], track(frames, 478, 2), np.nan).astype(np.float32)
    trust = np.where(valid[:, None], np.linspace(0, 1, 478), np.nan).astype(np.float32)
    blendshapes = scores if number % 2 else None
    landmarks = LandmarkTrack(pts, xy, trust, valid, 360, 288, "mediapipe 0.10.21", blendshapes)
    words = tuple(
        Interval(start, start + 80_000, label, 0.5 + 0.1 * place, False, "truth")
        for place, (start, label) in enumerate(((0, "bin"), (100_000, "blue"), (200_000, "größe")))
    )
    phones = (Interval(0, 40_000, "B", float("nan"), True, "truth"),)
    index = {
        "clip_id": f"clip_{number:04d}",
        "source_id": f"s{number // 2}",
        "source_uri": f"videos/größe {number}.mp4",
        "source_sha256": f"{number // 2:064x}",
        "speaker": speaker or f"s{number % 3}",
        "split": "val" if number // 2 % 5 == 4 else "train",
        "start_us": 1_000_000,
        "end_us": 1_000_000 + duration,
        "num_frames": frames,
        "fps_num": fps,
        "fps_den": 1,
        "width": 360,
        "height": 288,
        "status": "accepted",
        "nme_mean": float(rng.uniform(0.005, 0.04)),
        "valid_ratio": float(valid.mean()),
        "transcript": "bin blue größe" if number % 3 else None,
        "track": 0,
        "has_audio": number % 4 != 0,
        "licence": "CC-BY-4.0",
        "labels": {"emotion_take": "2"},
        "model_sha256": MODEL_HASH,
    }
    events = (Event(0, 40_000, "blink", 0.9, False, "truth", "blink"),)
    if number % 4 == 3:
        return ClipRecord(index, head, landmarks, Transcription(words, phones), events)
    felt = np.random.default_rng([number, 2])
    emotion = EmotionTrack(
        felt.dirichlet(np.ones(9), frames).astype(np.float32),
        felt.uniform(0, 1, (frames, 3)).astype(np.float32),
        felt.dirichlet(np.ones(9)).astype(np.float32),
    )
    style = Style("made-up 1", felt.normal(size=16).astype(np.float32))
    index.update(emotion="anger", emotion_confidence=0.5, emotion_intensity=0.25, style_pitch_hz=120.0)
    return ClipRecord(index, head, landmarks, Transcription(words, phones), events, emotion=emotion, style=style)


def rejected_clip(number: int, status: str = "rejected", reason: str = "no_face") -> ClipRecord:
    """A row without parameters."""
    index = {
        "clip_id": f"none_{number:04d}",
        "source_id": f"n{number}",
        "source_uri": f"videos/{number}.mp4",
        "status": status,
        "reason": reason,
    }
    return ClipRecord(index)


def writer(root: Path, shards: ShardConfig | None = None) -> DatasetWriter:
    """A writer with fixed facts."""
    return DatasetWriter(
        root,
        name="made-up",
        version="1.2.0",
        licence="CC0-1.0",
        config_yaml="name: made-up\n",
        config_digest="0123456789abcdef",
        models=[{"name": "open-head", "sha256": MODEL_HASH, "licence": "CC0-1.0"}],
        shards=shards or ShardConfig(clips_per_row_group=4, figures=False),
        generator={"talkset": "0.1.0", "pyarrow": "25"},
    )


def records(clips: int = 10) -> list[ClipRecord]:
    """Accepted clips with two others among them."""
    made: list[ClipRecord] = [random_clip(number) for number in range(clips)]
    made.insert(3, rejected_clip(1))
    made.append(rejected_clip(2, "failed", "truncated"))
    return made


def build(root: Path, clips: int = 10, shards: ShardConfig | None = None) -> list[ClipRecord]:
    """Write a data set and return what was put in."""
    made = records(clips)
    with writer(root, shards) as target:
        for record in made:
            target.add(record)
        target.finish()
    return made
