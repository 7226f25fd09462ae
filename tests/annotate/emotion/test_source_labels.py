"""Labels of known corpora become our classes, and unknown ones a warning."""

from __future__ import annotations

import pytest

from annotate.emotion.source_labels import CODES, NAMES, given_emotion
from schemas.labels import EMOTIONS


@pytest.mark.parametrize(
    ("labels", "uri", "emotion", "intensity"),
    [
        ({"emotion": "happy"}, "a.mp4", "happiness", None),
        ({"emotion": "Angry", "intensity": "high"}, "a.mp4", "anger", 1.0),
        ({"emotion": "fear", "emotion_intensity": "0.4"}, "a.mp4", "fear", 0.4),
        ({"emotion": "neutral", "intensity": "strong"}, "a.mp4", "neutral", 0.0),
        ({"corpus": "RAVDESS"}, "s3://x/Actor_12/01-01-05-02-01-01-12.mp4", "anger", 1.0),
        ({"corpus": "ravdess"}, "02-01-02-01-02-01-07.mp4", "calm", 0.5),
        ({"corpus": "ravdess", "emotion": "08", "intensity": "01"}, "x.mp4", "surprise", 0.5),
        ({"dataset": "crema_d"}, "/data/1001_DFA_DIS_MD.flv", "disgust", 2 / 3),
        ({"dataset": "CREMA-D"}, "1001_IEO_HAP_XX.flv", "happiness", None),
        ({"corpus": "mead"}, "M003/video/front/contempt/level_2/001.mp4", "contempt", 2 / 3),
        ({"corpus": "mead", "emotion": "disgusted", "intensity": "3"}, "a.mp4", "disgust", 1.0),
        ({"corpus": "beat", "emotion": "4"}, "1_wayne_0_87_87.npz", "contempt", None),
    ],
)
def test_known_labels(labels: dict[str, str], uri: str, emotion: str, intensity: float | None) -> None:
    given = given_emotion(labels, uri)
    assert (given.emotion, given.warning) == (emotion, None)
    assert given.intensity == pytest.approx(intensity)


def test_what_is_not_known_is_no_guess() -> None:
    assert given_emotion({}, "01-01-05-02-01-01-12.mp4") == given_emotion({"take": "3"}, "a.mp4")
    assert given_emotion({}, "a.mp4").emotion is None
    hungry = given_emotion({"emotion": "hungry"}, "a.mp4")
    assert hungry.emotion is None
    assert "hungry" in str(hungry.warning)
    code = given_emotion({"emotion": "05"}, "a.mp4")  # a code without its corpus
    assert code.emotion is None
    assert code.warning is not None
    mild = given_emotion({"emotion": "sad", "intensity": "mild-ish"}, "a.mp4")
    assert (mild.emotion, mild.intensity) == ("sadness", None)
    assert "mild-ish" in str(mild.warning)


def test_every_entry_of_the_table_is_one_of_our_classes() -> None:
    assert set(NAMES.values()) == set(EMOTIONS)
    assert all(set(table.values()) <= set(EMOTIONS) for table in CODES.values())
