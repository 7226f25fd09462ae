"""Networks of the documented signature, made here, as judges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from annotate.active_speaker import judge_version, make_judge
from annotate.active_speaker.base import Face, Heard
from annotate.active_speaker.network import NetworkJudge, face_crop
from annotate.sound import HeldSound
from schemas.config import SpeakerConfig
from schemas.errors import TalksetError, UsageError

TIMES = np.arange(0, 30_000_000, 40_000)


class Brightness(nn.Module):
    """Log odds: how bright the picture is, plus the energy of its four cepstra."""

    def __init__(self, two: bool) -> None:
        super().__init__()
        self.two = two

    def forward(self, audio: torch.Tensor, video: torch.Tensor) -> torch.Tensor:
        assert audio.shape[1] == 4 * video.shape[1]
        energy = audio[..., 0].reshape(1, -1, 4).mean(dim=2)
        odds = (video.mean(dim=(2, 3)) / 100 + energy)[0]
        return torch.stack([torch.zeros_like(odds), odds], dim=1) if self.two else odds


def weights(folder: Path, two: bool = False) -> Path:
    path = folder / "network.pt"
    torch.jit.script(Brightness(two)).save(str(path))  # type: ignore[no-untyped-call]
    return path


def heard() -> Heard:
    sound = np.zeros(30 * 16_000, np.float32)
    sound[20 * 16_000 :] = 0.5 * np.sin(np.arange(10 * 16_000)).astype(np.float32)
    return Heard(HeldSound(sound), (), np.zeros((3000, 3), np.float32))


def face(brightness: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> Face:
    crops = np.broadcast_to(brightness[:, np.newaxis, np.newaxis], (len(TIMES), 112, 112))
    return Face(TIMES, np.zeros((len(TIMES), 5), np.float32), crops)


@pytest.mark.parametrize("two", [False, True])
def test_pictures_and_sound_arrive_at_their_time(tmp_path: Path, two: bool) -> None:
    bright = np.where(TIMES < 10_000_000, 200, 0).astype(np.uint8)
    (odds,) = NetworkJudge("talknet", str(weights(tmp_path, two))).log_odds([face(bright)], heard())
    assert odds.shape == TIMES.shape
    middle = odds[300:450].mean()
    assert odds[50:240].mean() - middle == pytest.approx(2.0, abs=0.01)
    assert odds[520:700].mean() > middle + 5
    assert np.abs(np.diff(odds))[:240].max() < 0.01  # no seam between two pieces


def test_the_crop_is_where_the_mouth_is() -> None:
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[190:210, 140:160] = 255
    crop = face_crop(picture, (100, 100, 100, 100))
    assert crop.shape == (112, 112)
    rows, columns = np.nonzero(crop > 128)
    assert columns.mean() == pytest.approx(56, abs=2)
    assert rows.mean() == pytest.approx(112 * (200 - 135) / 70, abs=6)


def test_weights_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="weights"):
        make_judge(SpeakerConfig(backend="light-asd"))
    with pytest.raises(UsageError, match="unknown"):
        make_judge(SpeakerConfig(backend="ears"))
    with pytest.raises(TalksetError, match="does not exist"):
        judge_version(SpeakerConfig(backend="talknet", weights_path=str(tmp_path / "gone.pt")))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(TalksetError, match="cannot be loaded"):
        make_judge(SpeakerConfig(backend="talknet", weights_path=str(broken)))
    assert make_judge(SpeakerConfig()).name == judge_version(SpeakerConfig())


def test_other_weights_have_another_name(tmp_path: Path) -> None:
    names = set()
    for two in (False, True):
        (tmp_path / str(two)).mkdir()
        path = weights(tmp_path / str(two), two)
        names.add(judge_version(SpeakerConfig(backend="talknet", weights_path=str(path))))
    assert len(names) == 2
    assert all(name.startswith("talknet-") for name in names)
