"""Networks of the documented signature, made here, and trained classifiers, as judges of emotion."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_syncnet import write_means_network
from numpy.typing import NDArray
from torch import nn

from annotate.emotion import emotion_of, opinions_of
from annotate.emotion.base import Pictures
from annotate.emotion.make import judges_version, make_judges
from annotate.emotion.networks import MEAN, FaceNetwork, VoiceNetwork, face_input
from annotate.emotion.text import TextJudge
from annotate.emotion.trained import TrainedJudge, load_weights
from annotate.performance import Performance
from schemas.errors import TalksetError, UsageError
from schemas.label_config import EmotionConfig
from schemas.labels import EMOTIONS
from schemas.types import Interval

SECONDS = 4
PTS = np.arange(0, SECONDS * 1_000_000, 40_000)


def face_network(path: Path) -> Path:
    """(1, 3, 32, 32) -> (1, 8): the mean of red speaks for anger, that of blue for surprise, nothing for the rest."""
    weights = np.zeros((3, 8), np.float32)
    weights[0, 0], weights[2, 7] = 4.0, 4.0
    return write_means_network(path, weights)


class Loudness(nn.Module):
    """(1, N) -> (1, 4): how fast the sound changes speaks for anger, its stillness for sadness."""

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        change = (sound[:, 1:] - sound[:, :-1]).abs().mean(dim=1)
        zero = torch.zeros_like(change)
        return torch.stack([zero, zero, 6 * change, 6 * (0.5 - change)], dim=1)


def voice_network(path: Path) -> Path:
    torch.jit.script(Loudness()).save(str(path))  # type: ignore[no-untyped-call]
    return path


def clip(sound: bool = False) -> Performance:
    samples = None
    if sound:
        time = np.arange(SECONDS * 16_000) / 16_000
        samples = np.where(time < 2, np.sin(2 * np.pi * 3000 * time), np.sin(2 * np.pi * 100 * time)).astype(np.float32)
    return Performance(PTS, SECONDS * 1_000_000, np.ones(len(PTS), np.bool_), samples=samples)


def pictures() -> Pictures:
    """A face that is red for two seconds, then blue, in a green room."""

    def decode() -> Iterable[tuple[int, NDArray[np.uint8]]]:
        for pts in PTS.tolist():
            rgb = np.zeros((90, 120, 3), np.uint8)
            rgb[..., 1] = 255
            rgb[30:70, 40:80] = (255, 0, 0) if pts < 2_000_000 else (0, 0, 255)
            yield pts, rgb

    return Pictures(decode, np.tile(np.array([42, 32, 36, 36], np.float32), (len(PTS), 1)))


def test_a_face_network_sees_the_face_at_its_time(tmp_path: Path) -> None:
    judge = FaceNetwork(str(face_network(tmp_path / "hse.onnx")))
    windows, [opinion] = opinions_of(clip(), [judge], pictures())
    best = [EMOTIONS[i] for i in opinion.log_odds.argmax(1)]
    assert best[0] == "anger"
    assert best[len(windows) - 2] == "surprise"
    assert judge.name.startswith("face:hse-")
    assert opinions_of(clip(), [judge])[1] == []  # nobody gave pictures
    found = emotion_of(clip(), [judge], pictures())
    assert found is not None
    assert [event.label for event in found.events] == ["anger", "surprise"]


def test_the_crop_is_the_face() -> None:
    rgb = np.zeros((100, 100, 3), np.uint8)
    rgb[40:60, 40:60] = 255
    crop = face_input(rgb, np.array([42, 42, 16, 16], np.float32), 32)
    assert crop.shape == (3, 32, 32)
    assert crop.min() > 1.5  # white all over, normalised
    outside = face_input(rgb, np.array([0, 0, 10, 10], np.float32), 32)
    assert outside[0].max() == pytest.approx(-MEAN[0] / 0.229, abs=1e-3)


def test_a_voice_network_hears_the_windows(tmp_path: Path) -> None:
    judge = VoiceNetwork(str(voice_network(tmp_path / "voice.pt")))
    windows, [opinion] = opinions_of(clip(sound=True), [judge])
    best = [EMOTIONS[i] for i in opinion.log_odds.argmax(1)]
    assert (best[0], best[len(windows) - 2]) == ("anger", "sadness")
    assert opinion.log_odds[:, EMOTIONS.index("fear")].max() < opinion.log_odds.max(1).min()  # it does not know fear
    assert opinions_of(clip(), [judge])[1] == []


def test_scales_are_told_as_scales(tmp_path: Path) -> None:
    judge = VoiceNetwork(str(voice_network(tmp_path / "v.pt")), ("other", "dominance", "arousal", "valence"))
    _, [opinion] = opinions_of(clip(sound=True), [judge])
    assert opinion.arousal is not None
    assert opinion.arousal[0] > opinion.arousal[-2]
    assert np.ptp(opinion.log_odds) == 0


def test_what_is_no_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(TalksetError, match="does not exist"):
        FaceNetwork(str(tmp_path / "gone.onnx"))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(TalksetError, match="cannot be loaded"):
        FaceNetwork(str(broken))
    good = str(face_network(tmp_path / "hse.onnx"))
    with pytest.raises(UsageError, match="none of the labels"):
        FaceNetwork(good, ("bored",))
    with pytest.raises(TalksetError, match="shape"):
        opinions_of(clip(), [FaceNetwork(good, ("anger", "fear"))], pictures())


def test_a_configuration_chooses_judges_and_names_their_files(tmp_path: Path) -> None:
    face, voice = face_network(tmp_path / "hse.onnx"), voice_network(tmp_path / "voice.pt")
    config = EmotionConfig(face_network=str(face), voice_network=str(voice))
    names = [judge.name for judge in make_judges(config, None, None, None)]
    assert len(names) == 5
    assert judges_version(config) != judges_version(EmotionConfig())
    assert all(name.split(":")[1] in judges_version(config) for name in names[3:])
    with pytest.raises(UsageError, match="rest_from"):
        judges_version(EmotionConfig(rest_from="mood"))
    with pytest.raises(TalksetError, match="does not exist"):
        judges_version(EmotionConfig(face_network="nowhere.onnx"))


def trained_file(path: Path, **change: Any) -> Path:
    stored = {
        "format": 1, "features": ["text_fear", "face_AU4"], "classes": ["neutral", "fear"], "mean": [0.0, 0.2],
        "scale": [1.0, 0.1], "weights": [[-2.0, 2.0], [0.0, 0.0]], "bias": [0.5, -0.5], "temperature": 1.0,
    }  # fmt: skip
    path.write_text(json.dumps({**stored, **change}))
    return path


def test_a_trained_classifier_judges_by_the_features_of_others(tmp_path: Path) -> None:
    judge = TrainedJudge(str(trained_file(tmp_path / "c.json")), [TextJudge()])
    word = Interval(1_000_000, 1_400_000, "terrified", 1.0, False, "truth")
    spoken = Performance(PTS, SECONDS * 1_000_000, np.zeros(len(PTS), np.bool_), words=(word,))
    found = emotion_of(spoken, [judge], prior=dict.fromkeys(EMOTIONS, 1 / 9))
    assert found is not None
    assert found.label == "fear"
    assert found.track.clip[EMOTIONS.index("anger")] < 1e-4  # a class that it never saw
    assert found.source.startswith("trained:")
    assert emotion_of(clip(), [judge]) is None


@pytest.mark.parametrize("change", [{"format": 9}, {"classes": ["neutral", "boredom"]}, {"scale": [0.0, 1.0]},
                                    {"weights": [[1.0, 2.0]]}, {"bias": None}])  # fmt: skip
def test_damaged_classifiers_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(TalksetError, match="no emotion classifier"):
        load_weights(str(trained_file(tmp_path / "c.json", **change)))
