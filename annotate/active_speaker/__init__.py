from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.config import SpeakerConfig
from schemas.errors import UsageError

if TYPE_CHECKING:
    from annotate.active_speaker.base import ActiveSpeaker

BACKENDS = ("lips", "light-asd", "talknet")


def make_judge(config: SpeakerConfig) -> ActiveSpeaker:
    """The judge that the configuration names.

    Raises UsageError for an unknown name or a network without weights, TalksetError for weights that cannot be read.
    """
    _check(config)
    if config.backend == "lips":
        from annotate.active_speaker.lips import LipJudge

        return LipJudge(config.max_offset_ms)
    from annotate.active_speaker.network import NetworkJudge

    return NetworkJudge(config.backend, str(config.weights_path))


def judge_version(config: SpeakerConfig) -> str:
    """Name and version of that judge, without loading it; raises as `make_judge`."""
    _check(config)
    if config.backend == "lips":
        from annotate.active_speaker.lips import VERSION

        return f"lips+{VERSION}"
    from annotate.active_speaker.network import weights_name

    return weights_name(config.backend, str(config.weights_path))


def _check(config: SpeakerConfig) -> None:
    if config.backend not in BACKENDS:
        raise UsageError(f"unknown speaker.backend {config.backend!r}", f"Known: {', '.join(BACKENDS)}")
    if config.backend != "lips" and config.weights_path is None:
        message = f"speaker.backend={config.backend} needs the weights of its network"
        raise UsageError(message, "Set speaker.weights_path to a TorchScript or ONNX file")
