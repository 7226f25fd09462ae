"""A data set to learn from, made without pictures: known motion and synthesised speech written as a data set.

Nothing is rendered and nothing is fitted: the parameters are the motion's truth, words and phones are the speech's, and
the landmarks are the head's own points projected by its camera, named as such. So minutes make what a pipeline needs
hours for, and what a generator learns from it says nothing about the fit.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from annotate.audio import write_wav
from reconstruct.camera import project
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_model
from reconstruct.models.skinning import prepare, skin
from schemas.config import ShardConfig
from schemas.errors import UsageError
from schemas.records import ClipRecord
from schemas.shards import DatasetWriter
from schemas.types import HeadTrack, LandmarkTrack
from synthetic.affect import Affect
from synthetic.make import Truth, perform
from synthetic.motion import Manner
from synthetic.talker import LICENCE, Talker, random_talker

TRAIN_TEXTS: Final = (
    "The birch canoe slid on the smooth planks.", "Glue the sheet to the dark blue background.",
    "It is easy to tell the depth of a well.", "These days a chicken leg is a rare dish.",
    "Rice is often served in round bowls.", "The juice of lemons makes fine punch.",
    "The box was thrown beside the parked truck.", "Four hours of steady work faced us.",
    "A large size in stockings is hard to sell.", "The boy was there when the sun rose.",
    "A rod is used to catch pink salmon.", "The source of the huge river is the clear spring.",
    "Kick the ball straight and follow through.", "Help the woman get back to her feet.",
    "A pot of tea helps to pass the evening.", "The soft cushion broke the fall of the man.",
    "The salt breeze came across from the sea.", "The girl at the booth sold fifty bonds.",
    "The small pup gnawed a hole in the sock.", "The fish twisted and turned on the bent hook.",
    "Press the pants and sew a button on the vest.", "The swan dive was far short of perfect.",
    "The beauty of the view stunned the young boy.", "Two blue fish swam in the tank.",
    "Her purse was full of useless trash.", "The young girl gave no clear response.",
    "The meal was cooked before the bell rang.", "What joy there is in living by a brook.",
    "A king ruled the state in the early days.", "The ship was torn apart on the sharp reef.",
    "Five years he lived with a shaggy dog.", "Both brothers move boxes by the open window.",
)  # fmt: skip
"""Most are of the Harvard sentences (IEEE 1969), which hold the phones of English about as often as speech does."""
TEST_TEXTS: Final = (
    "Many people prefer to walk home before it rains.", "Please bring me the blue book from the table.",
    "She will show you a very different picture tomorrow.", "How much money would you pay for a boat like this?",
    "Every morning my father makes a pot of coffee.", "We have been away for more than five weeks.",
    "The quick brown fox jumps over the lazy dog.", "Both of them bought a map of the old town.",
)  # fmt: skip
EMOTIONS: Final = ("neutral", "happiness", "anger", "sadness", "contempt", "surprise", "fear", "disgust")
DETECTOR: Final = "projected truth"
POINTS: Final = 96
"""Points of the head that stand for landmarks."""
POSES: Final = ("global_pose", "neck_pose", "jaw_pose", "left_eye_pose", "right_eye_pose")
CLIPS_PER_GROUP: Final = 8


@dataclass(frozen=True)
class Plan:
    """How much to make."""

    speakers: int = 56
    """Many with few clips each: a manner is told from other manners, so their number is what style is learned from."""
    test_speakers: int = 6
    """Those of `speakers` whom nothing is learned from."""
    clips: int = 3
    """Of each manner of each speaker to learn from."""
    test_clips: int = 6
    """Of each manner of each test speaker: enough that some are left to be found again."""
    sentences: int = 2
    """Of each clip."""
    seed: int = 0


def manners(speaker: int, seed: int) -> tuple[Manner, Manner]:
    """Two manners of one person: a calm and a lively one, each drawn at random."""
    rng = np.random.default_rng([seed, speaker, 211])

    def drawn(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    turn = drawn(0.08, 0.28) * (1 if rng.uniform() < 0.5 else -1)
    calm = Manner(
        head=drawn(0.2, 0.8), mouth=drawn(0.65, 0.95), brows=drawn(0.1, 0.8), smile=drawn(0.0, 0.15),
        blinks_hz=drawn(0.2, 0.35), turn_rad=turn,
    )  # fmt: skip
    lively = Manner(
        head=drawn(1.1, 2.2), mouth=drawn(1.0, 1.35), brows=drawn(1.2, 2.5), smile=drawn(0.15, 0.5),
        blinks_hz=drawn(0.35, 0.8), turn_rad=drawn(-0.28, 0.28),
    )  # fmt: skip
    return calm, lively


def plan_clips(plan: Plan) -> list[tuple[str, str, Talker]]:
    """(split, manner, talker) of every clip; the same plan gives the same. Raises UsageError for an impossible one."""
    if not 0 <= plan.test_speakers < plan.speakers or min(plan.clips, plan.test_clips, plan.sentences) < 1:
        raise UsageError(f"{plan} makes no data set", "Ask for more speakers than test speakers, and for clips")
    planned = []
    for speaker in range(plan.speakers):
        test = speaker >= plan.speakers - plan.test_speakers
        texts = TEST_TEXTS if test else TRAIN_TEXTS
        person = random_talker(1000 + 97 * plan.seed + speaker)
        for number, manner in enumerate(manners(speaker, plan.seed)):
            for clip in range(plan.test_clips if test else plan.clips):
                rng = np.random.default_rng([plan.seed, speaker, number, clip, 223])
                said = " ".join(texts[i] for i in rng.choice(len(texts), plan.sentences, replace=False))
                emotion = EMOTIONS[(clip + 3 * number + speaker) % len(EMOTIONS)]
                strength = 0.0 if emotion == "neutral" else float(rng.choice([0.5, 1.0, 1.0]))
                name = f"s{speaker:03d}-{'calm' if number == 0 else 'lively'}-{clip:02d}"
                seed = int(rng.integers(1 << 30))
                talker = replace(
                    person, name=name, text=said, manner=manner, motion_seed=seed, shape_seed=5000 + speaker,
                    affect=Affect(emotion, strength),
                )  # fmt: skip
                planned.append(("test" if test else "train", "calm" if number == 0 else "lively", talker))
    return planned


def make_training_set(out: Path, plan: Plan = Plan(), workers: int | None = None) -> Path:
    """Write the data set into `out`; returns its folder. The same plan gives the same files, whatever the workers.

    media/ holds the voices as .wav; there are no videos. Raises UsageError, and TalksetError for a full disk.
    """
    planned = plan_clips(plan)
    model = load_model()
    media = out / "media"
    media.mkdir(parents=True, exist_ok=True)
    shards = ShardConfig(clips_per_row_group=CLIPS_PER_GROUP, figures=False)
    facts: dict[str, Any] = {
        "name": "synthetic-talkers", "version": "1.0.0", "licence": LICENCE, "config_yaml": f"plan: {plan}\n",
        "config_digest": f"{abs(plan.seed):016x}", "generator": {"talkset": "0.1.0"},
        "models": [{"name": model.name, "sha256": model.sha256, "licence": model.licence}],
    }  # fmt: skip
    with DatasetWriter(out, shards=shards, **facts) as writer:
        for record in _performed(planned, media, workers or os.cpu_count() or 1):
            writer.add(record)
        return writer.finish()


def _performed(planned: Sequence[tuple[str, str, Talker]], media: Path, workers: int) -> Iterator[ClipRecord]:
    """Records in the order of the plan."""
    jobs = [(*job, str(media)) for job in planned]
    if workers == 1:
        yield from map(_clip, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        yield from pool.map(_clip, jobs, chunksize=4)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _clip(job: tuple[str, str, Talker, str]) -> ClipRecord:
    split, manner, talker, media = job
    model = load_model()
    truth, utterance = perform(talker, model)
    write_wav(Path(media, f"{talker.name}.wav"), utterance.samples, utterance.rate)
    duration_us = len(utterance.samples) * 1_000_000 // utterance.rate
    fps = talker.fps
    index = {
        "clip_id": talker.name,
        "source_id": talker.name,
        "source_uri": f"synthetic/{talker.name}",
        "speaker": talker.name.split("-")[0],
        "split": split,
        "start_us": 0,
        "end_us": max(duration_us, int(truth.pts_us[-1]) + 1),
        "num_frames": len(truth.pts_us),
        "fps_num": fps.numerator,
        "fps_den": fps.denominator,
        "width": talker.width,
        "height": talker.height,
        "status": "accepted",
        "valid_ratio": 1.0,
        "language": "en",
        "transcript": talker.text,
        "emotion_given": talker.affect.emotion,
        "emotion_given_intensity": talker.affect.intensity,
        "track": 0,
        "has_audio": True,
        "licence": LICENCE,
        "labels": {"manner": manner},
        "model_sha256": model.sha256,
        "warnings": "synthetic: parameters are the truth, nothing was rendered or fitted",
    }
    return ClipRecord(index, truth.track, _points(truth, model, talker), truth.speech)


def _points(truth: Truth, model: HeadModel, talker: Talker) -> LandmarkTrack:
    """Every so many vertices of the face as the camera sees them."""
    face = model.regions["face"].astype(np.int64)
    ids = face[np.linspace(0, len(face) - 1, POINTS).astype(int)]
    vertices = posed(prepare(model, ids), truth.track)
    pixels = project(vertices, truth.track.focal_px, torch.as_tensor(truth.track.principal_point))[..., :2].numpy()
    count = len(truth.pts_us)
    return LandmarkTrack(
        pts_us=truth.pts_us,
        face_xy=pixels.astype(np.float32),
        confidence=np.ones((count, POINTS), np.float32),
        valid=np.ones(count, np.bool_),
        width=talker.width,
        height=talker.height,
        detector=DETECTOR,
    )


def posed(skinning: Any, track: HeadTrack) -> torch.Tensor:
    """Camera-space vertices (T, n, 3) of a track."""
    root, neck, jaw, left, right = (torch.as_tensor(getattr(track, name)) for name in POSES)
    shape, expression = torch.as_tensor(track.shape), torch.as_tensor(track.expression)
    return skin(skinning, shape, expression, root, neck, jaw, left, right, torch.as_tensor(track.translation))
