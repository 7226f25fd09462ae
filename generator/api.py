"""A trained generator in three lines.

speaker = load_speaker("training/")
motion = speaker.speak("hello.wav", style=open_dataset("data/")["clip_id"], emotion="happiness:0.8", seed=1)
motion.track.expression  # (T, E), and everything else a data set has of a head
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generator.checkpoint import Generator, load_checkpoint
from generator.config import DiffusionConfig
from generator.data import emotion_vector
from generator.features import LOGMEL, RATE_HZ
from generator.motion import BODY_SIGNALS
from generator.sample import STREAM_HOP, Conditions, Session, features_of, generate, stream
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_model
from schemas.errors import UsageError
from schemas.types import HeadTrack
from talkset.dataset import Clip
from talkset.media import file_sound
from talkset.resample import frame_times

Float32 = NDArray[np.float32]

LEAST_STYLE_FRAMES: Final = 10
"""Valid frames without which a clip tells nothing of a manner."""
FACING: Final = np.array([np.pi, 0.0, 0.0], np.float32)
MOST_VERGENCE_RAD: Final = 0.1
"""Between the eyes of who looks at something 60 cm away."""
JOINTS: Final = {"neck_pose": 1, "jaw_pose": 2, "left_eye_pose": 3, "right_eye_pose": 4}


@dataclass(frozen=True)
class Motion:
    """What was generated."""

    pts_us: NDArray[np.int64]
    """(T,)"""
    track: HeadTrack
    body: dict[str, Float32]
    """Rotations of the body by signal, (T, width); empty without a body."""
    fps: int


class Speaker:
    """A generator with its head model."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.model: HeadModel = load_model(generator.layout.head_model)
        if self.model.sha256 != generator.layout.model_sha256:
            message = f"the head model {self.model.name} here is not the one that the generator was trained with"
            raise UsageError(message, "Install that model, or train again")

    @property
    def diffusion(self) -> DiffusionConfig:
        """Its own sampling settings."""
        return self.generator.config.diffusion

    def conditions(self, style: Clip, emotion: str = "neutral", seed: int = 0) -> Conditions:
        """The style and head of a clip, an emotion such as "happiness:0.8", and a seed. Raises UsageError."""
        if seed < 0:
            raise UsageError(f"the seed {seed} is below zero", "Choose 0 or more")
        code, shape = self.style_of(style)
        return Conditions(code[None], torch.as_tensor(parse_emotion(emotion))[None], shape[None], (seed,))

    @torch.no_grad()
    def style_of(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """(K,) style and (S,) shape of a clip. Raises UsageError for one of another head model or hardly valid."""
        layout = self.generator.layout
        name, digest = clip.index["head_model"], clip.index["model_sha256"]
        if name is None:
            raise UsageError(f"clip {clip.clip_id} has no motion ({clip.index['status']})", "Choose an accepted clip")
        if name != layout.head_model or digest != layout.model_sha256:
            message = f"clip {clip.clip_id} has the head model {name}, the generator {layout.head_model}"
            raise UsageError(f"{message} (or another version of it)", "Their codes differ: choose a clip of that model")
        signals = {signal: clip.read(signal, layout.signals) for signal in (*layout.signals, "valid")}
        valid = signals.pop("valid")
        if int(valid.sum()) < LEAST_STYLE_FRAMES:
            message = f"clip {clip.clip_id} has {int(valid.sum())} valid frames, which show no style"
            raise UsageError(message, f"Choose a clip with {LEAST_STYLE_FRAMES} or more")
        absent = [signal for signal, values in signals.items() if values is None]
        if absent:
            raise UsageError(f"clip {clip.clip_id} has no {absent[0]}", "Choose a clip with a body")
        motion = np.where(valid[:, None], layout.vector(signals), 0).astype(np.float32)
        device = next(self.generator.style.parameters()).device
        tensors = torch.as_tensor(motion)[None].to(device), torch.as_tensor(valid)[None].to(device)
        code, _ = self.generator.style(*tensors)
        return code[0].cpu(), torch.as_tensor(clip.read("shape"))

    def speak(
        self,
        audio: str | Path | Float32,
        style: Clip,
        emotion: str = "neutral",
        seed: int = 0,
        diffusion: DiffusionConfig | None = None,
    ) -> Motion:
        """Motion for a sound file, or for mono samples at 16 kHz, in the style and with the head of a clip.

        The same arguments give the same motion on one machine. A file is read and used in blocks: an hour needs little
        more memory than a minute. Raises UsageError, and TalksetError for a file that cannot be read.
        """
        conditions = self.conditions(style, emotion, seed)
        if self.generator.config.audio == LOGMEL:
            blocks = file_sound(Path(audio), RATE_HZ) if isinstance(audio, (str, Path)) else iter((checked(audio),))
            pieces = list(stream(self.generator, blocks, conditions, hop=None, diffusion=diffusion))
            vectors = torch.cat(pieces, dim=1)
        else:
            sound = np.concatenate(list(file_sound(Path(audio), RATE_HZ))) if isinstance(audio, (str, Path)) else audio
            features = features_of(self.generator, checked(sound))
            vectors = generate(self.generator, features[None], conditions, diffusion=diffusion)
        return self.motion(vectors[0], style)

    def stream(
        self,
        sound: Iterable[Float32],
        style: Clip,
        emotion: str = "neutral",
        seed: int = 0,
        hop: int = STREAM_HOP,
        diffusion: DiffusionConfig | None = None,
    ) -> Iterator[dict[str, Float32]]:
        """Signals (n, width) of the next frames while the sound comes in; `latency_s` says how late they are."""
        conditions = self.conditions(style, emotion, seed)
        for piece in stream(self.generator, map(checked, sound), conditions, hop=hop, diffusion=diffusion):
            yield self.bounded(piece[0])

    def latency_s(self, hop: int = STREAM_HOP) -> float:
        """How much later than its sound a frame of `stream` is final, in seconds, the computing not counted."""
        nothing = torch.zeros(1, 1)
        conditions = Conditions(nothing, nothing, nothing, (0,))
        return Session(self.generator, conditions, hop=hop).latency_s

    def bounded(self, vectors: Tensor) -> dict[str, Float32]:
        """Signals (T, width) of normalised vectors (T, D), inside the head model's bounds."""
        signals = {name: np.asarray(v, np.float32) for name, v in self.generator.layout.signals_of(vectors).items()}
        bounds = self.model.expression_bounds
        signals["expression"] = np.clip(signals["expression"], bounds[:, 0], bounds[:, 1])
        for name, joint in JOINTS.items():
            low, high = self.model.pose_bounds[joint].T
            signals[name] = np.clip(signals[name], low, high)
        signals["left_eye_pose"], signals["right_eye_pose"] = together(
            signals["left_eye_pose"], signals["right_eye_pose"]
        )
        return signals

    def motion(self, vectors: Tensor, style: Clip) -> Motion:
        """Normalised vectors (T, D) as a head track with the head, place and camera of the style clip."""
        signals = self.bounded(vectors)
        body = {name: signals.pop(name) for name in list(signals) if name in BODY_SIGNALS}
        valid = np.asarray(style.read("valid"))
        place = np.median(np.asarray(style.read("translation"))[valid], axis=0).astype(np.float32)
        count = len(vectors)
        track = HeadTrack(
            head_model=self.model.name,
            model_sha256=self.model.sha256,
            shape=np.asarray(style.read("shape"), np.float32),
            translation=np.tile(place, (count, 1)),
            focal_px=float(style.read("focal_px")),
            principal_point=np.asarray(style.read("principal_point"), np.float32),
            valid=np.ones(count, np.bool_),
            residual_px=np.zeros(count, np.float32),
            nme=np.zeros(count, np.float32),
            **signals,
        )
        fps = self.generator.config.fps
        times = frame_times(0, (count - 1) * 1_000_000 // fps, fps)[:count]
        return Motion(times, track, body, fps)


def load_speaker(path: str | Path, device: torch.device | str = "cpu", **diffusion: Any) -> Speaker:
    """The generator of a checkpoint or of a training's folder; keywords change its sampling, as sample_steps=20.

    Raises TalksetError missing_file, missing_model or corrupt_data, UsageError for one of another talkset.
    """
    generator = load_checkpoint(Path(path), device)
    if diffusion:
        settings = dataclasses.replace(generator.config.diffusion, **diffusion)
        generator = dataclasses.replace(generator, config=dataclasses.replace(generator.config, diffusion=settings))
    return Speaker(generator)


def parse_emotion(text: str) -> Float32:
    """The vector of "happiness:0.8", or of "anger" at full intensity. Raises UsageError."""
    name, colon, much = text.partition(":")
    try:
        intensity = float(much) if colon else 1.0
    except ValueError as error:
        raise UsageError(f"{text!r} is no emotion with an intensity", "Write it as happiness:0.8") from error
    return emotion_vector(name.strip(), intensity)


def checked(samples: Any) -> Float32:
    """Mono, finite samples. Raises UsageError."""
    sound = np.asarray(samples, np.float32)
    if sound.ndim != 1 or not len(sound) or not np.isfinite(sound).all():
        raise UsageError(f"sound of shape {sound.shape} cannot be used", "Pass finite mono samples (N,) at 16 kHz")
    return sound


def together(left: Float32, right: Float32) -> tuple[Float32, Float32]:
    """Poses (T, 3) of two eyes, axis-angle, as muscles let them be: of one height, never apart, crossed a little.

    Small rotations: their axis-angles are taken for pitch, yaw and roll. What each eye would do alone is a
    generator's noise, and shows at once.
    """
    mean = (left + right) / 2
    crossed = np.clip(right[:, 1] - left[:, 1], 0, MOST_VERGENCE_RAD) / 2
    half = np.stack([0 * crossed, crossed, 0 * crossed], axis=1).astype(np.float32)
    return np.asarray(mean - half, np.float32), np.asarray(mean + half, np.float32)
