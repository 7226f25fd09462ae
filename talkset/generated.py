"""Generated motion as a data set of one clip, and a generator measured with what all rooms know."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from generator.api import Motion, Speaker
from generator.checkpoint import Generator
from generator.config import to_json
from generator.data import selected
from generator.evaluate import Embed, Recognise, Report, Rules, evaluate
from reconstruct.models.head_model import HeadModel
from reconstruct.models.open_head import JAW_OPEN_RAD
from schemas.config import ShardConfig
from schemas.errors import UsageError
from schemas.records import ClipRecord
from schemas.shards import DatasetWriter
from schemas.types import Interval, LandmarkTrack
from talkset.dataset import Clip, Dataset, open_dataset

if TYPE_CHECKING:
    from annotate.performance import Performance

DETECTOR: Final = "generated"
POINTS: Final = 96


def clip_id_of(audio: Path, style: Clip, emotion: str, seed: int) -> str:
    """A plain name for what was made of them."""
    parts = (audio.stem, style.clip_id, emotion.replace(":", ""), str(seed))
    return re.sub(r"[^A-Za-z0-9_.\-]", "-", "_".join(parts)).lstrip("-.")[:120]


def write_dataset(
    root: Path,
    model: HeadModel,
    motion: Motion,
    audio: Path,
    style: Clip,
    emotion: str,
    seed: int,
    generator: Generator,
) -> Path:
    """Write motion as a data set of one clip with its sound in media/, in the schema of every other data set.

    Landmarks are points of the head projected by the style clip's camera, and named so. Raises TalksetError for a full
    disk, UsageError for a folder that is another data set.
    """
    from talkset.media import file_sound

    clip_id = clip_id_of(audio, style, emotion, seed)
    if (root / "dataset.json").is_file() and open_dataset(root).facts.get("name") != "generated":
        raise UsageError(f"{root} is another data set", "Choose another --out")
    media = root / "media"
    media.mkdir(parents=True, exist_ok=True)
    name, _, strength = emotion.partition(":")
    duration_us = int(motion.pts_us[-1]) + 1_000_000 // motion.fps
    digest = hashlib.sha256()
    for block in file_sound(audio, 16_000):
        digest.update(block.tobytes())
    index: dict[str, Any] = {
        "clip_id": clip_id,
        "source_id": clip_id,
        "source_uri": audio.name,
        "source_sha256": hashlib.sha256(audio.read_bytes()).hexdigest() if audio.stat().st_size < 1 << 30 else None,
        "speaker": style.index["speaker"],
        "start_us": 0,
        "end_us": duration_us,
        "num_frames": len(motion.pts_us),
        "fps_num": motion.fps,
        "fps_den": 1,
        "width": int(style.index["width"] or 0) or None,
        "height": int(style.index["height"] or 0) or None,
        "status": "accepted",
        "valid_ratio": 1.0,
        "emotion_given": name,
        "emotion_given_intensity": 0.0 if name == "neutral" else float(strength or 1.0),
        "track": 0,
        "has_audio": True,
        "labels": {"style_clip": style.clip_id, "seed": str(seed)},
        "model_sha256": model.sha256,
        "warnings": "generated: no face was seen, the motion was made from the sound",
    }
    _copy_sound(audio, media / f"{clip_id}.wav")  # before the tables: their list of hashes has it
    config = f"generator: {to_json(generator.config)}\n"
    with DatasetWriter(
        root,
        name="generated",
        version="1.0.0",
        licence=str(style.dataset.facts.get("licence") or "unknown"),
        config_yaml=config,
        config_digest=hashlib.sha256(config.encode() + digest.digest()).hexdigest()[:16],
        models=[{"name": model.name, "sha256": model.sha256, "licence": model.licence}],
        shards=ShardConfig(figures=False),
        generator={"talkset": "0.1.0", "trained_on": str(generator.data.get("name"))},
    ) as writer:
        writer.add(ClipRecord(index, motion.track, _points(model, motion, style)))
        return writer.finish()


def _points(model: HeadModel, motion: Motion, style: Clip) -> LandmarkTrack:
    from reconstruct.camera import project
    from reconstruct.models.skinning import prepare
    from reconstruct.overlay import posed_vertices

    face = model.regions.get("face", np.arange(model.num_vertices)).astype(np.int64)
    ids = face[np.linspace(0, len(face) - 1, POINTS).astype(int)]
    count = len(motion.pts_us)
    vertices = posed_vertices(prepare(model, ids), motion.track, np.arange(count))
    centre = torch.as_tensor(motion.track.principal_point)
    pixels = project(vertices, motion.track.focal_px, centre)[..., :2].numpy().astype(np.float32)
    return LandmarkTrack(
        pts_us=motion.pts_us,
        face_xy=pixels,
        confidence=np.ones((count, POINTS), np.float32),
        valid=np.ones(count, np.bool_),
        width=int(style.index["width"] or 1),
        height=int(style.index["height"] or 1),
        detector=DETECTOR,
    )


def _copy_sound(audio: Path, target: Path) -> None:
    """The sound as 16 kHz mono PCM, block by block; it appears whole or not at all."""
    import wave

    from talkset.media import file_sound

    partial = target.with_name(f".{target.name}.partial")
    try:
        with wave.open(str(partial), "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(16_000)
            for block in file_sound(audio, 16_000):
                wav.writeframes(np.clip(np.rint(block * 32767.0), -32768, 32767).astype("<i2").tobytes())
        shutil.move(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def evaluate_on(
    speaker: Speaker, data: Path, checkpoint: Path, seeds: int, split: str, second: Path | None = None
) -> Report:
    """Figures on a split of a data set, with the label stage's emotions and rules of visemes where they can be had."""
    from generator.audio_column import add_features

    home = checkpoint if checkpoint.is_dir() else checkpoint.parent
    cached = home / "data"
    audio = speaker.generator.config.audio
    ready = cached if (cached / "dataset.json").is_file() else add_features(data, home / "evaluated", audio)
    dataset = open_dataset(ready)
    name = speaker.generator.layout.head_model
    test = _of_model(selected(dataset, split), name)
    train = _of_model(selected(dataset, "train"), name)
    other = None if second is None else open_dataset(second)
    return evaluate(
        speaker,
        test,
        train,
        seeds=range(seeds),
        recognise=recogniser(speaker.model),
        embed=style_statistics(speaker.model),
        rules=viseme_rules(speaker.model),
        second=other,
    )


def _of_model(dataset: Dataset, name: str) -> Dataset:
    return dataset.select(f"head_model == '{name}'")


def recogniser(model: HeadModel) -> Recognise | None:
    """(motion) -> the emotion that the label stage finds in the face; None for a head without ARKit's expressions.

    The face judge alone, with the weights as they were generated: there is no picture, and the voice would tell.
    """
    from annotate.emotion import emotion_of
    from annotate.emotion.face import FaceJudge
    from reconstruct.models.arkit import ARKIT_NAMES

    if not set(ARKIT_NAMES) <= set(model.expression_names):
        return None
    judge = FaceJudge("exact")

    def recognise(motion: Motion) -> str:
        found = emotion_of(_performance(model, motion), [judge])
        return "" if found is None else found.label

    return recognise


def style_statistics(model: HeadModel) -> Embed | None:
    """(motion) -> the label stage's style embedding of face and head; None for a head without ARKit's expressions.

    The statistics that were not learned (annotate/style/statistical.py), without the voice: it would tell.
    """
    from annotate.style.statistical import embed
    from reconstruct.models.arkit import ARKIT_NAMES

    if not set(ARKIT_NAMES) <= set(model.expression_names):
        return None

    def statistics(motion: Motion) -> NDArray[np.float32]:
        style = embed(_performance(model, motion))
        assert style is not None  # there is always a face
        return style.embedding

    return statistics


def _performance(model: HeadModel, motion: Motion) -> Performance:
    """Motion as annotators take it: weights and angles as they were generated, no picture and no sound."""
    from annotate.performance import Performance
    from pipelines.performance import head_angles, head_rotation
    from reconstruct.models.arkit import ARKIT_NAMES, to_arkit

    track = motion.track
    weights = to_arkit(model, track.expression, track.jaw_pose, track.left_eye_pose, track.right_eye_pose, clip=True)
    duration_us = int(motion.pts_us[-1]) + 1_000_000 // motion.fps
    head = head_angles(head_rotation(track), track.valid)
    return Performance(motion.pts_us, duration_us, track.valid, ARKIT_NAMES, weights, head=head)


def viseme_rules(model: HeadModel) -> Rules | None:
    """(clip, times) -> expression and jaw by annotate's viseme rules; None for a head without ARKit expressions."""
    from annotate.visemes import ARKIT_NAMES, arkit_track

    if "mouthPucker" not in model.expression_names:
        return None
    columns = {name: model.expression_names.index(name) for name in ARKIT_NAMES if name in model.expression_names}

    def rules(clip: Clip, pts_us: NDArray[np.int64]) -> Mapping[str, NDArray[np.float32]] | None:
        rows = clip.phones()
        if not rows:
            return None
        fields = {field.name for field in dataclasses.fields(Interval)}
        phones = [Interval(**{key: row[key] for key in fields}) for row in rows]
        track = arkit_track(phones, pts_us)
        expression = np.zeros((len(pts_us), model.num_expression), np.float32)
        for place, name in enumerate(ARKIT_NAMES):
            if name in columns and name not in model.fixed_expressions:
                expression[:, columns[name]] = track[:, place]
        jaw = np.zeros((len(pts_us), 3), np.float32)
        jaw[:, 0] = JAW_OPEN_RAD * track[:, ARKIT_NAMES.index("jawOpen")]
        return {"expression": expression, "jaw_pose": jaw}

    return rules
