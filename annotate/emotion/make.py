"""The judges that a configuration asks for."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from annotate.emotion.base import EmotionClassifier
from annotate.emotion.face import FaceJudge
from annotate.emotion.source_labels import VERSION as LABELS_VERSION
from annotate.emotion.text import TextJudge
from annotate.emotion.voice import OwnVoice, VoiceJudge
from schemas.errors import UsageError
from schemas.label_config import EmotionConfig
from schemas.types import Float32

REST_FROM = ("speaker", "clip")


def make_judges(
    config: EmotionConfig, rest: Float32 | None, identity: Float32 | None, own: OwnVoice | None
) -> list[EmotionClassifier]:
    """Judges of face, voice and text, and networks where there are files.

    Args: rest: weights of the speaker's face at rest, None where they are not known: then the clip stands alone and
    `identity` is what its fit takes for the person. own: the speaker's own voice, likewise.
    Raises TalksetError missing_model or corrupt_data, and UsageError for labels that are none.
    """
    face = FaceJudge("speaker", rest) if rest is not None else FaceJudge("clip", identity)
    inside: list[EmotionClassifier] = [face, VoiceJudge(own), TextJudge()]
    if config.classifier is not None:
        from annotate.emotion.trained import TrainedJudge

        inside = [TrainedJudge(config.classifier, inside)]
    return [*inside, *_networks(config)]


@functools.lru_cache(maxsize=2)
def _networks(config: EmotionConfig) -> Sequence[EmotionClassifier]:
    from annotate.emotion.networks import FaceNetwork, VoiceNetwork

    found: list[EmotionClassifier] = []
    if config.face_network is not None:
        found.append(FaceNetwork(config.face_network, split_labels(config.face_labels)))
    if config.voice_network is not None:
        found.append(VoiceNetwork(config.voice_network, split_labels(config.voice_labels)))
    return tuple(found)


def split_labels(text: str) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(name.strip() for name in text.split(","))


def judges_version(config: EmotionConfig) -> str:
    """Name of all that decides on a clip's emotion besides the clip, with the hashes of files.

    Raises UsageError for an unknown `rest_from`, TalksetError missing_model for a file that is not there.
    """
    if config.rest_from not in REST_FROM:
        raise UsageError(f"unknown emotion.rest_from={config.rest_from!r}", f"Choose {' or '.join(REST_FROM)}")
    from annotate.emotion.networks import network_name
    from schemas.files import sha256_file

    parts = ["face-1", VoiceJudge.name, TextJudge.name, f"labels-{LABELS_VERSION}"]
    from annotate.emotion.face import TABLES

    parts.append(sha256_file(TABLES)[:8])
    paths = (config.face_network, config.voice_network, config.classifier)
    parts += [network_name(path) for path in paths if path is not None]
    return "+".join(parts)
