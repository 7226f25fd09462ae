"""Where somebody speaks: the Silero voice-activity network, from the ONNX file in its wheel.

The wheel's own functions are not used because they load torch, which takes longer than a whole clip, and set its number
of threads for the process.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np

from annotate.network_file import one_thread_session
from annotate.sound import RATE, Sound, as_sound
from schemas.errors import TalksetError
from schemas.types import Float32, Span

FRAME: Final = 512
FRAME_US: Final = FRAME * 1_000_000 // RATE
"""32 ms."""

THRESHOLD: Final = 0.5
RELEASE: Final = 0.35
"""Speech begins above the threshold and lasts until it is below this."""

_CONTEXT: Final = 64
"""Samples before its frame that the network sees."""
_BLOCK: Final = 512
"""Frames computed at once: 16 s."""


def speech_probability(samples: Float32 | Sound) -> Float32:
    """(ceil(N / 512),) probability that somebody speaks, for each 32 ms of sound at 16 kHz.

    Raises UsageError when samples are not (N,) and finite, TalksetError(missing_model) without the wheel's network.
    """
    sound = as_sound(samples)
    hidden = cell = np.zeros((1, 1, 128), np.float32)
    found: list[Float32] = []
    for start in range(0, sound.num_samples, _BLOCK * FRAME):
        stop = min(start + _BLOCK * FRAME, sound.num_samples)
        count = -(-(stop - start) // FRAME)
        read = sound.read(max(0, start - _CONTEXT), stop)
        padded = np.pad(read, (max(0, _CONTEXT - start), count * FRAME - (stop - start)))
        frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME + _CONTEXT)[::FRAME]
        inputs = {"input": np.ascontiguousarray(frames, np.float32), "h": hidden, "c": cell}
        values, hidden, cell = _network().run(["speech_probs", "hn", "cn"], inputs)
        found.append(np.asarray(values, np.float32).reshape(-1))
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def speech_spans(probability: Float32, min_speech_ms: float = 100.0, min_pause_ms: float = 150.0) -> tuple[Span, ...]:
    """Spans of speech in microseconds from the first sample, from `speech_probability`.

    Pauses and speech that are shorter than the limits do not count.
    """
    loud, start = False, 0
    spans: list[tuple[int, int]] = []
    for index, value in enumerate([*probability.tolist(), 0.0]):
        if not loud and value >= THRESHOLD:
            loud, start = True, index
        elif loud and value < RELEASE:
            loud = False
            if spans and (start - spans[-1][1]) * FRAME_US < min_pause_ms * 1000:
                spans[-1] = (spans[-1][0], index)
            else:
                spans.append((start, index))
    long = [span for span in spans if (span[1] - span[0]) * FRAME_US >= min_speech_ms * 1000]
    return tuple(Span(begin * FRAME_US, end * FRAME_US) for begin, end in long)


def overlap_us(spans: tuple[Span, ...], start_us: int, end_us: int) -> int:
    """How much of [start_us, end_us) lies inside the spans."""
    return sum(max(0, min(end_us, span.end_us) - max(start_us, span.start_us)) for span in spans)


@functools.cache
def _network() -> Any:
    """The session; it holds no state between calls."""
    package = importlib.util.find_spec("silero_vad")
    folders = list(package.submodule_search_locations or []) if package else []
    path = Path(*folders[:1], "data", "silero_vad_16k_sequence.onnx")
    if not folders or not path.is_file():
        message = f"the speech-activity network {path.name} is not installed"
        raise TalksetError("missing_model", message, "Install the package silero-vad, 6.2 or later")
    return one_thread_session(path)
