"""What a generator is and how it learns: `tiny` for a laptop's CPU, `base` to compare with, `body` with a body."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from schemas.errors import UsageError
from schemas.settings import build, set_values, to_dict


@dataclass(frozen=True)
class ModelConfig:
    """Size of the denoising transformer."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 2
    """Width of the feed-forward part over that of the model."""
    kernel: int = 5
    """Frames that the depthwise convolution of each block sees."""
    audio_width: int = 96
    audio_kernel: int = 5
    style_width: int = 64
    body_layers: int = 0
    """Blocks of the body's own branch; 0 where the body is not generated."""
    dropout: float = 0.0


@dataclass(frozen=True)
class StyleConfig:
    """The contrastive style encoder and how it is trained before the generator."""

    width: int = 48
    layers: int = 0
    """Convolutions whose moments count beside those of the motion."""
    steps: int = 300
    batch: int = 192
    """Clips."""
    learning_rate: float = 5e-3
    temperature: float = 0.1


@dataclass(frozen=True)
class DiffusionConfig:
    """Noise, sampling and guidance."""

    steps: int = 500
    sample_steps: int = 8
    """Network evaluations of a window without guidance."""
    guidance_audio: float = 1.0
    guidance_style: float = 1.0
    guidance_emotion: float = 1.5
    """1: no guidance, and no further evaluation of the network; 0: the condition is ignored."""
    drop_audio: float = 0.05
    drop_style: float = 0.1
    drop_emotion: float = 0.1
    drop_shape: float = 0.3
    own_style: float = 0.5
    """Of the windows that are given the style of their own clip; the others have that of another of the same manner."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss's terms."""

    params: float = 1.0
    velocity: float = 1.0
    smoothness: float = 0.1
    lips: float = 1.0
    """Of lip vertices, in units of `lip_scale_mm` squared."""
    lip_velocity: float = 1.0
    lip_scale_mm: float = 2.0
    lids: float = 4.0
    """Weight of what shuts the eyes among the values of `params`, `velocity` and `smoothness`."""
    style: float = 0.5
    """That the style encoder finds in the prediction the style that was asked for; 0: off."""
    exchange: float = 0.0
    """EMOTE's content-emotion exchange; 0: off."""
    lip_vertices: int = 24


@dataclass(frozen=True)
class TrainConfig:
    """How the generator learns."""

    steps: int = 1800
    batch: int = 32
    accumulate: int = 1
    """Parts in which a batch is computed; the gradient is that of the whole batch."""
    learning_rate: float = 2e-3
    warmup: int = 50
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.995
    precision: str = "fp32"
    """fp32, bf16 or fp16 (with loss scaling)."""
    save_every: int = 250
    log_every: int = 25
    workers: int = 0
    """Processes that read; 0: threads of this one."""
    hop_s: float = 0.4


@dataclass(frozen=True)
class GeneratorConfig:
    """Everything that a checkpoint remembers of how it was made."""

    name: str = "tiny"
    fps: int = 25
    window: int = 60
    """New frames of a window."""
    context: int = 10
    """Known frames before it."""
    lookahead: int = 6
    """Frames at a window's end that the next one makes again, with more sound before it and blends in."""
    audio: str = "logmel"
    """Or a local folder or hub name of a HuBERT or wav2vec2 model."""
    body: bool = False
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    style: StyleConfig = field(default_factory=StyleConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def rate(self) -> Fraction:
        """Frames a second, exact."""
        return Fraction(self.fps)

    @property
    def window_s(self) -> float:
        """Seconds of a training window, its known frames included."""
        return (self.window + self.context) / self.fps


_BASE_MODEL: Final = ModelConfig(width=512, layers=8, heads=8, feed_forward=4, audio_width=256, style_width=128)
_BASE_STYLE: Final = StyleConfig(width=256, layers=4, steps=20_000, batch=256, learning_rate=5e-4)
_BASE: Final = GeneratorConfig(
    name="base",
    window=100,
    model=_BASE_MODEL,
    style=_BASE_STYLE,
    diffusion=DiffusionConfig(sample_steps=10, guidance_audio=1.15, guidance_style=1.5, guidance_emotion=1.5),
    train=TrainConfig(
        steps=100_000,
        batch=64,
        learning_rate=1e-4,
        warmup=2000,
        ema=0.9999,
        precision="bf16",
        save_every=2500,
        workers=4,
    ),
)
CONFIGS: Final[Mapping[str, GeneratorConfig]] = {
    "tiny": GeneratorConfig(),
    "base": _BASE,
    "body": dataclasses.replace(_BASE, name="body", body=True, model=dataclasses.replace(_BASE_MODEL, body_layers=4)),
}
"""By name. `base` has about 35 million parameters, as DiffPoseTalk's denoiser has."""

PRECISIONS: Final = ("fp32", "bf16", "fp16")


def load_config(name: str, overrides: Sequence[str] = ()) -> GeneratorConfig:
    """A named configuration with values set such as "train.steps=200". Raises UsageError with a suggestion."""
    if name not in CONFIGS:
        raise UsageError(f"unknown configuration {name!r}", f"Known: {', '.join(CONFIGS)}")
    content = to_dict(CONFIGS[name])
    set_values(content, overrides, "See docs/generator.md")
    return from_dict(content)


def from_dict(content: Mapping[str, Any]) -> GeneratorConfig:
    """The configuration that `dataclasses.asdict` gave, checked. Raises UsageError for one that cannot be."""
    made = build(GeneratorConfig, content)
    _check(made)
    return made


def from_json(text: str) -> GeneratorConfig:
    """The configuration that `to_json` wrote. Raises UsageError."""
    try:
        return from_dict(json.loads(text))
    except ValueError as error:
        raise UsageError(f"this is no configuration ({error})", "Train again") from error


def to_json(config: GeneratorConfig) -> str:
    """Text for a checkpoint."""
    return json.dumps(to_dict(config))


def _check(config: GeneratorConfig) -> None:
    train, model = config.train, config.model
    limits: dict[str, tuple[float, bool]] = {
        "fps": (config.fps, config.fps >= 1),
        "window": (config.window, config.window >= 2),
        "context": (config.context, 0 < config.context < config.window),
        "lookahead": (config.lookahead, 0 <= config.lookahead < config.window),
        "train.batch": (train.batch, train.batch >= 1),
        "train.accumulate": (train.accumulate, 1 <= train.accumulate <= train.batch),
        "train.steps": (train.steps, train.steps >= 1),
        "train.ema": (train.ema, 0 <= train.ema < 1),
        "train.hop_s": (train.hop_s, train.hop_s > 0),
        "model.heads": (model.heads, model.heads >= 1 and model.width % model.heads == 0),
        "model.kernel": (model.kernel, model.kernel % 2 == 1),
        "diffusion.sample_steps": (
            config.diffusion.sample_steps,
            1 <= config.diffusion.sample_steps <= config.diffusion.steps,
        ),
        "style.batch": (config.style.batch, config.style.batch >= 2),
    }
    for name, (value, good) in limits.items():
        if not good:
            raise UsageError(f"{name}={value} makes no generator", "See docs/generator.md for what it may be")
    if train.precision not in PRECISIONS:
        raise UsageError(f"train.precision={train.precision!r} is not known", f"Known: {', '.join(PRECISIONS)}")
    if config.body != (model.body_layers > 0):
        raise UsageError("body and model.body_layers disagree", "Use --config body, or set both")
