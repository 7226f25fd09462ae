"""Sections of the configuration for the stages that label clips: emotion, motion events, style, semantics, language
model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EmotionConfig:
    """What a clip feels like, by face, voice and text; docs/labels.md has the definitions."""

    enabled: bool = True
    rest_from: str = "speaker"
    """`speaker`: face and voice are compared with what they mostly are in all clips of the speaker whom the manifest
    names; a clip that joins redoes the emotions of its speaker. `clip`: each clip stands alone."""
    min_clips: int = 6
    """Fewest clips of a speaker from which on they say what is ordinary for him or her: of a few clips of one mood,
    that mood would become the ordinary."""
    face_network: str | None = None
    """ONNX file of a network of faces (HSEmotion), beside the built-in judges."""
    face_labels: str = "anger,contempt,disgust,fear,happiness,neutral,sadness,surprise"
    """Its outputs in order; `valence` and `arousal` may be among them."""
    voice_network: str | None = None
    """ONNX or TorchScript file of a network of voices (wav2vec2)."""
    voice_labels: str = "neutral,happiness,anger,sadness"
    classifier: str | None = None
    """File that `talkset train emotion` wrote; it then judges by all built-in features alone."""


@dataclass(frozen=True)
class MotionEventsConfig:
    """Blinks, nods, shakes, looks away and key motions; docs/labels_style.md has their rules."""

    enabled: bool = True


@dataclass(frozen=True)
class StyleConfig:
    """Manner of a clip: descriptors and an embedding."""

    enabled: bool = True
    encoder: str = "statistical"
    """`statistical` (without training), or the path of a .safetensors file that `talkset train style` wrote."""


@dataclass(frozen=True)
class SemanticsConfig:
    """What words mean and the gestures that go with them. English."""

    enabled: bool = True


@dataclass(frozen=True)
class LanguageModelConfig:
    """A language model behind an OpenAI-compatible endpoint that describes clips from their words and numbers.

    No picture and no sound is sent. The key of the endpoint is read from the environment, never from here.
    """

    enabled: bool = False
    url: str = ""
    """Base of the endpoint, as http://localhost:8000/v1; `/chat/completions` is added."""
    model: str = ""
    """Name of the model, as the endpoint knows it."""
    key_variable: str = "TALKSET_LLM_API_KEY"
    """Environment variable with the key; an endpoint that needs none is asked without one where it is not set."""
    temperature: float = 0.0
    max_tokens: int = 600
    """Longest answer."""
    timeout_s: float = 60.0
    """Longest wait for one answer."""
    attempts: int = 3
    """Attempts at an answer that is refused for the moment, malformed, or does not come."""
    requests_per_min: float = 60.0
    """Most requests a minute from one machine, over all processes that share the cache folder."""
    budget_tokens: int = 1_000_000
    """Most tokens, questions and answers, that may be used with the cache folder: what was answered stays, other clips
    go without. 0: none."""
    round: int = 0
    """Raise it to ask again what was not answered: answers stay in the cache, so only the others are asked."""
    cache: str | None = None
    """Folder of answers; None: `language_model` in the user's cache folder."""
