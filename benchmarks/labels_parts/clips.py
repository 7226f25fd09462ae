"""Clips through detector and fit, kept in a cache: rendered talkers with their truth, and recordings."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotate.audio import read_audio
from annotate.performance import Performance
from pipelines.performance import performance_of
from pipelines.segmentation.faces import FaceFinder
from reconstruct.embedding import Embedding
from reconstruct.fit import fit_clip
from reconstruct.landmarks import make_detector
from reconstruct.landmarks.embed import embedding_for
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_model
from reconstruct.video import frames, probe
from schemas.config import Config
from schemas.types import HEAD_ARRAYS, FaceTrack, HeadTrack, LandmarkTrack, Transcription
from synthetic.head_gestures import HeadGesture, random_gestures
from synthetic.make import Truth, perform
from synthetic.render import render
from synthetic.speech import Utterance
from synthetic.talker import SENTENCES, Talker, random_talker
from talkset.training.prepared import user_cache

UInt8 = NDArray[np.uint8]
VERSION = "1"
"""Raised where detector, fit or talkers change what the cache holds."""
SIZE = 320


@dataclass(frozen=True)
class Clips:
    """Detector and model, and where results are kept."""

    folder: Path
    config: Config
    model: HeadModel

    @classmethod
    def of(cls, folder: Path | None) -> Clips:
        """With the default configuration."""
        return cls(folder or user_cache() / "benchmark-labels-style", Config(), load_model())

    @functools.cached_property
    def embedding(self) -> Embedding:
        """Landmarks on the model."""
        return embedding_for(self.model, make_detector(self.config.landmarks).name, self.config.landmarks)

    def acted(self, seed: int) -> tuple[Talker, Truth, Utterance, tuple[HeadGesture, ...]]:
        """A talker that nods, shakes and blinks, before anything is drawn."""
        plain = random_talker(seed, SIZE, SIZE)
        plain = dataclasses.replace(plain, text=" ".join(SENTENCES[(seed + k) % len(SENTENCES)] for k in range(2)))
        first, _ = perform(plain, self.model)
        gestures = random_gestures(float(first.pts_us[-1]) / 1e6, seed)
        manner = dataclasses.replace(plain.manner, gestures=gestures, blinks_hz=0.5)
        talker = dataclasses.replace(plain, manner=manner)
        return talker, *perform(talker, self.model), gestures

    def rendered(self, seed: int) -> tuple[Truth, tuple[HeadGesture, ...], Performance]:
        """The same talker: truth, gestures, and what was seen and heard of it."""
        talker, truth, speech, gestures = self.acted(seed)
        pictures = zip(truth.pts_us.tolist(), render(self.model, talker, truth.track), strict=True)
        head, landmarks = self._fitted(f"rendered-{seed}", pictures, SIZE, SIZE)
        duration_us = int(truth.pts_us[-1]) + 40_000
        return truth, gestures, self.performance(head, landmarks, duration_us, speech.samples, truth.speech)

    def recorded(self, path: Path, name: str) -> Performance:
        """The first clip of a video, whole."""
        info = probe(path)
        start, end = info.video_start_us, info.video_start_us + info.duration_us
        pictures = ((pts - start, rgb) for pts, rgb in frames(path, start, end))
        head, landmarks = self._fitted(f"recorded-{name}", pictures, info.width, info.height)
        samples = None if info.audio_rate is None else read_audio(path, start, end)
        return self.performance(head, landmarks, info.duration_us, samples)

    def performance(
        self,
        head: HeadTrack,
        landmarks: LandmarkTrack,
        duration_us: int,
        samples: NDArray[np.float32] | None,
        spoken: Transcription | None = None,
    ) -> Performance:
        """As the stages make it."""
        return performance_of(self.model, head, landmarks, duration_us, samples, spoken, embedding=self.embedding)

    def _fitted(
        self, name: str, pictures: Iterable[tuple[int, UInt8]], width: int, height: int
    ) -> tuple[HeadTrack, LandmarkTrack]:
        path = self.folder / f"{name}-v{VERSION}-{self.model.sha256[:8]}.npz"
        if not path.is_file():
            head, landmarks = self._fit(list(pictures), width, height)
            path.parent.mkdir(parents=True, exist_ok=True)
            arrays = {f"head_{key}": getattr(head, key) for key in HEAD_ARRAYS}
            partial = path.with_suffix(".partial.npz")
            np.savez_compressed(
                partial, pts_us=landmarks.pts_us, face_xy=landmarks.face_xy, confidence=landmarks.confidence,
                valid=landmarks.valid, detector=landmarks.detector, focal_px=head.focal_px, **arrays,
            )  # fmt: skip
            partial.replace(path)
        with np.load(path, allow_pickle=False) as stored:
            found = LandmarkTrack(
                stored["pts_us"], stored["face_xy"], stored["confidence"], stored["valid"], width, height,
                str(stored["detector"]),
            )  # fmt: skip
            arrays = {key: stored[f"head_{key}"] for key in HEAD_ARRAYS}
            return HeadTrack(self.model.name, self.model.sha256, focal_px=float(stored["focal_px"]), **arrays), found

    def _fit(self, pictures: list[tuple[int, UInt8]], width: int, height: int) -> tuple[HeadTrack, LandmarkTrack]:
        boxes, times = [], []
        with FaceFinder(self.config.segment) as finder:
            for pts_us, rgb in pictures[::5]:
                if found := finder.detect(rgb):
                    largest = max(found, key=lambda box: box.width * box.height)
                    boxes.append((largest.x, largest.y, largest.width, largest.height))
                    times.append(pts_us)
        track = FaceTrack(np.array(times, np.int64), np.array(boxes, np.float32))
        with make_detector(self.config.landmarks) as detector:
            landmarks = detector.detect(pictures, track, width, height)
        return fit_clip(self.model, self.embedding, landmarks, self.config.fit), landmarks
