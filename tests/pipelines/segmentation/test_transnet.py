"""Networks of TransNetV2's signature, made here: what they say of a frame reaches the frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_transnet import write_flashes
from numpy.typing import NDArray
from torch import nn

from pipelines.segmentation.cuts import cut_finders, cut_version
from pipelines.segmentation.shots import Shots
from schemas.config import SegmentConfig
from schemas.errors import TalksetError, UsageError
from schemas.types import Span

STEP = 40_000


class Steps(nn.Module):
    """Certain of each frame from which the brightness goes to another one in the next."""

    def __init__(self, extra: bool) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        assert frames.shape[1:] == (100, 27, 48, 3)
        level = frames.to(torch.float32).mean(dim=(2, 3, 4))
        change = torch.nn.functional.pad((level[:, 1:] - level[:, :-1]).abs(), (0, 1))
        logits = torch.where(change > 2.0, 9.0, -9.0).unsqueeze(2)
        return logits, {"many_hot": logits}


def weights(folder: Path, extra: bool = False) -> Path:
    path = folder / "transnet.pt"
    torch.jit.script(Steps(extra)).save(str(path))  # type: ignore[no-untyped-call]
    return path


def config(path: Path) -> SegmentConfig:
    return SegmentConfig(shot_backend="transnetv2", shot_weights_path=str(path))


def shots(path: Path, levels: list[int], step_us: int = STEP) -> Shots:
    finder = cut_finders(config(path))()
    for i, level in enumerate(levels):
        finder.push(i * step_us, picture(level))
    return finder.finish()


def picture(level: int) -> NDArray[np.uint8]:
    return np.full((90, 160, 3), level, np.uint8)


@pytest.mark.parametrize("cut", [1, 24, 25, 49, 50, 74, 75, 100, 149, 150, 198])
def test_a_cut_is_found_at_its_frame_wherever_the_windows_lie(tmp_path: Path, cut: int) -> None:
    found = shots(weights(tmp_path), [10] * cut + [200] * (199 - cut))
    assert found.shots == [Span(0, cut * STEP), Span(cut * STEP, 199 * STEP)]
    assert found.transitions == []


def test_a_run_is_a_transition(tmp_path: Path) -> None:
    levels = [10] * 60 + list(range(20, 200, 10)) + [200] * 60
    found = shots(weights(tmp_path), levels)
    assert found.transitions == [Span(59 * STEP, 78 * STEP)]
    assert found.shots == [Span(0, 59 * STEP), Span(78 * STEP, len(levels) * STEP)]


def test_an_onnx_graph_is_a_network_too(tmp_path: Path) -> None:
    """Its frames are white where it is certain: one before a cut, many in a fade."""
    levels = [255 if i == 33 or 70 <= i < 80 else 0 for i in range(130)]
    found = shots(write_flashes(tmp_path / "net.onnx"), levels)
    assert found.transitions == [Span(70 * STEP, 80 * STEP)]
    assert found.shots == [Span(a * STEP, b * STEP) for a, b in ((0, 34), (34, 70), (80, 130))]


@pytest.mark.parametrize("count", [0, 1, 3, 50, 51, 99, 100, 101])
def test_any_number_of_frames(tmp_path: Path, count: int) -> None:
    found = shots(weights(tmp_path), [10] * count)
    assert found.shots == ([Span(0, max(1, count * STEP if count > 1 else 1))] if count else [])


def test_frames_that_may_begin_a_view_are_told_at_once(tmp_path: Path) -> None:
    finder = cut_finders(config(weights(tmp_path)))()
    abrupt = [finder.push(i * STEP, picture(10 if i < 20 else 200)) for i in range(40)]
    assert np.flatnonzero(abrupt).tolist() == [20]


def test_weights_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="weights"):
        cut_finders(SegmentConfig(shot_backend="transnetv2"))
    with pytest.raises(UsageError, match="unknown"):
        cut_version(SegmentConfig(shot_backend="scissors"))
    with pytest.raises(TalksetError, match="does not exist"):
        cut_version(config(tmp_path / "gone.pt"))
    for name in ("broken.onnx", "broken.pt"):
        (tmp_path / name).write_bytes(b"no network")
        with pytest.raises(TalksetError, match="cannot be loaded"):
            cut_finders(config(tmp_path / name))
    (tmp_path / "net.h5").write_bytes(b"no network")
    with pytest.raises(UsageError, match="neither"):
        cut_finders(config(tmp_path / "net.h5"))


def test_a_network_of_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.jit.trace(nn.Flatten(), torch.zeros((1, 100, 27, 48, 3), dtype=torch.uint8)).save(str(path))  # type: ignore[no-untyped-call]
    finder = cut_finders(config(path))()
    for i in range(74):  # with the 25 before the first they are one less than a window
        finder.push(i * STEP, picture(10))
    with pytest.raises(TalksetError, match="predictions"):
        finder.push(74 * STEP, picture(10))


def test_other_weights_have_another_name(tmp_path: Path) -> None:
    names = {cut_version(SegmentConfig())}
    for extra in (False, True):
        (tmp_path / str(extra)).mkdir()
        names.add(cut_version(config(weights(tmp_path / str(extra), extra))))
    assert len(names) == 3
