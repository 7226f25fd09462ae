"""Writes talkers as ordinary videos beside their truth: <name>.mp4, <name>.npz, <name>.json, and a manifest."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.models.head_model import HeadModel, write_npz
from reconstruct.models.registry import load_model
from reconstruct.video import write_video
from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors, write_atomic
from schemas.types import HEAD_ARRAYS, HeadTrack, Int64, Interval, Transcription
from synthetic.affect import Affect
from synthetic.motion import talk
from synthetic.render import render
from synthetic.speech import Utterance, synthesize
from synthetic.talker import AUDIO_RATE, DEMO_TALKERS, LICENCE, Talker, placement_of, shape_of

FORMAT: Final = 1


@dataclass(frozen=True)
class TalkerFiles:
    """What `make_talker` wrote."""

    talker: Talker
    video: Path
    track: Path
    """.npz: the head track."""
    labels: Path
    """.json: words, phones and what was asked for."""


@dataclass(frozen=True)
class Truth:
    """The known truth of one video; times in microseconds from its first frame."""

    pts_us: Int64
    """(T,)"""
    track: HeadTrack
    speech: Transcription
    affect: Affect = field(default_factory=Affect)
    """What is felt; `affect.course(pts_us / 1e6)` is how strongly it shows in each frame."""


def frame_times(duration_us: int, fps: Fraction) -> Int64:
    """(T,) PTS in microseconds of the whole frames of a duration, each rounded from the exact rational time."""
    count = max(1, int(Fraction(duration_us, 1_000_000) * fps))
    return np.array([round(index * 1_000_000 / fps) for index in range(count)], dtype=np.int64)


def perform(talker: Talker, model: HeadModel) -> tuple[Truth, Utterance]:
    """Speech and motion of a talker, without pictures."""
    affect = talker.affect
    utterance = synthesize(talker.text, affect.voiced(talker.voice), talker.motion_seed, AUDIO_RATE)
    if affect.gain_db:
        louder = np.clip(utterance.samples * np.float32(10 ** (affect.gain_db / 20)), -1, 1)
        utterance = replace(utterance, samples=louder)
    pts_us = frame_times(len(utterance.samples) * 1_000_000 // utterance.rate, talker.fps)
    phones, words = utterance.phones, utterance.words
    shape = shape_of(talker, model)
    placement, seed, person = placement_of(talker), talker.motion_seed, talker.shape_seed
    track = talk(model, shape, phones, words, pts_us, placement, talker.manner, seed, affect, person)
    return Truth(pts_us, track, Transcription(words, phones), affect), utterance


def make_talker(talker: Talker, folder_videos: Path, folder_truth: Path, model: HeadModel | None = None) -> TalkerFiles:
    """Write a talker's video and truth, each file whole or not at all; the video comes last.

    Uses the open head when no model is given. Folders are made as needed.
    Raises UsageError and TalksetError as speech, motion and the writers do.
    """
    model = model or load_model()
    truth, utterance = perform(talker, model)
    for folder in (folder_videos, folder_truth):
        with named_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    files = TalkerFiles(
        talker,
        folder_videos / f"{talker.name}.mp4",
        folder_truth / f"{talker.name}.npz",
        folder_truth / f"{talker.name}.json",
    )
    save_truth(truth, model, talker, files.track, files.labels)

    frames = zip(truth.pts_us.tolist(), render(model, talker, truth.track), strict=True)
    write_video(files.video, frames, talker.fps, (utterance.samples, utterance.rate))
    return files


def save_truth(truth: Truth, model: HeadModel, talker: Talker, track: Path, labels: Path) -> None:
    """Write the truth of a talker as .npz (head track) and .json (labels)."""
    arrays: dict[str, NDArray[Any]] = {name: getattr(truth.track, name) for name in HEAD_ARRAYS}
    arrays["pts_us"] = truth.pts_us
    arrays["focal_px"] = np.array(truth.track.focal_px)
    arrays["head_model"] = np.array(truth.track.head_model)
    arrays["model_sha256"] = np.array(truth.track.model_sha256)
    arrays["expression_names"] = np.array(model.expression_names)
    with named_errors(track):
        write_npz(track, arrays)
    meta = {
        "format": FORMAT,
        "name": talker.name,
        "text": talker.text,
        "fps": [talker.fps.numerator, talker.fps.denominator],
        "size": [talker.width, talker.height],
        "shape_seed": talker.shape_seed,
        "motion_seed": talker.motion_seed,
        "licence": LICENCE,
        "affect": asdict(truth.affect),
        "words": _rows(truth.speech.words),
        "phones": _rows(truth.speech.phones),
    }
    write_atomic(labels, (json.dumps(meta, indent=1) + "\n").encode())


def _rows(intervals: Sequence[Interval]) -> list[dict[str, Any]]:
    return [{"start_us": i.start_us, "end_us": i.end_us, "label": i.label} for i in intervals]


def load_truth(track: Path, labels: Path) -> Truth:
    """Read what `save_truth` wrote. Raises TalksetError: missing_file or corrupt_data."""
    for path in (track, labels):
        if not path.is_file():
            raise TalksetError("missing_file", f"{path} does not exist", "Make the talker again")
    try:
        with np.load(track, allow_pickle=False) as stored:
            head = HeadTrack(
                head_model=str(stored["head_model"]),
                model_sha256=str(stored["model_sha256"]),
                focal_px=float(stored["focal_px"]),
                **{name: stored[name] for name in HEAD_ARRAYS},
            )
            pts_us = stored["pts_us"]
        meta = json.loads(labels.read_text())
        words, phones = (
            tuple(Interval(r["start_us"], r["end_us"], r["label"], 1.0, False, "truth") for r in meta[kind])
            for kind in ("words", "phones")
        )
        affect = Affect(**meta.get("affect", {}))  # files of earlier talkers do not say
    except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
        message = f"{track} or {labels} is not readable ({error})"
        raise TalksetError("corrupt_data", message, "Make the talker again") from error
    return Truth(pts_us, head, Transcription(words, phones), affect)


def make_all(folder: Path, talkers: Sequence[Talker] = DEMO_TALKERS) -> tuple[Path, list[TalkerFiles]]:
    """Make talkers in `folder`/videos and `folder`/truth; returns `folder`/manifest.csv and the files."""
    made = [make_talker(talker, folder / "videos", folder / "truth") for talker in talkers]
    manifest = folder / "manifest.csv"
    write_manifest(manifest, made)
    return manifest, made


def write_manifest(path: Path, made: Sequence[TalkerFiles]) -> None:
    """Write a manifest of talkers with uris relative to its own folder."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("uri", "speaker", "language", "transcript", "licence"))
    for files in made:
        uri = Path(os.path.relpath(files.video, path.parent)).as_posix()
        writer.writerow((uri, files.talker.name, "en", files.talker.text, LICENCE))
    write_atomic(path, text.getvalue().encode())
