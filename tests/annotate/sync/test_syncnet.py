"""SyncNet's adapter, with networks whose answer is known."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from made_up_syncnet import flashing, write_onnx, write_torchscript
from numpy.typing import NDArray
from scipy.fft import dct

from annotate.sync import Face, make_estimator
from annotate.sync.syncnet import mfcc
from schemas.config import SyncConfig
from schemas.errors import TalksetError, UsageError

SECONDS = 2.4
Writer = Callable[[Path], Path]


def _face(level: NDArray[np.float64], unseen: slice = slice(0)) -> Face:
    pts = np.arange(len(level), dtype=np.int64) * 40_000
    boxes = np.tile(np.array([10.0, 10.0, 40.0, 40.0], np.float32), (len(level), 1))
    boxes[unseen] = math.nan

    def frames() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for time, value in zip(pts.tolist(), level, strict=True):
            yield time, np.full((80, 80, 3), round(255 * value), np.uint8)

    return Face(pts, np.zeros((len(level), 2), np.float32), boxes, frames)


def _late(samples: NDArray[np.float32], by_ms: int, margin_ms: int) -> NDArray[np.float32]:
    quiet = np.full(16 * margin_ms, 1e-5, np.float32)
    padded = np.concatenate([quiet, samples, quiet])
    return np.roll(padded, 16 * by_ms)


@pytest.mark.parametrize(("write", "name"), [(write_torchscript, "net.pt"), (write_onnx, "net.onnx")])
@pytest.mark.parametrize("by_ms", [-200, 0, 130])
def test_the_offset_at_which_pictures_are_as_bright_as_the_sound_is_loud(
    tmp_path: Path, write: Writer, name: str, by_ms: int
) -> None:
    level, samples = flashing(SECONDS)
    estimator = make_estimator(SyncConfig(backend="syncnet", weights_path=str(write(tmp_path / name)), range_ms=400))
    margin = estimator.margin_ms
    found = estimator.estimate(_face(level), _late(samples, by_ms, margin), -1000 * margin)
    assert found.offset_ms == pytest.approx(by_ms, abs=20)
    other = estimator.estimate(_face(flashing(SECONDS, 1)[0]), _late(samples, by_ms, margin), -1000 * margin)
    assert found.confidence > other.confidence + 0.1


def test_windows_with_a_hole_have_no_say(tmp_path: Path) -> None:
    level, samples = flashing(SECONDS)
    estimator = make_estimator(SyncConfig(backend="syncnet", weights_path=str(write_torchscript(tmp_path / "n.pt"))))
    margin = estimator.margin_ms
    sound = _late(samples, 80, margin)
    assert estimator.estimate(_face(level, slice(20, 30)), sound, -1000 * margin).offset_ms == pytest.approx(80, abs=20)
    nothing = estimator.estimate(_face(level, slice(2, None)), sound, -1000 * margin)
    assert math.isnan(nothing.offset_ms)
    assert nothing.confidence == 0


def test_weights_are_part_of_the_name(tmp_path: Path) -> None:
    first = make_estimator(SyncConfig(backend="syncnet", weights_path=str(write_torchscript(tmp_path / "a.pt"))))
    second = make_estimator(SyncConfig(backend="syncnet", weights_path=str(write_onnx(tmp_path / "a.onnx"))))
    assert first.name.startswith("syncnet-")
    assert first.name != second.name


def test_what_is_no_syncnet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs weights"):
        make_estimator(SyncConfig(backend="syncnet"))
    with pytest.raises(TalksetError, match="does not exist") as missing:
        make_estimator(SyncConfig(backend="syncnet", weights_path=str(tmp_path / "none.pt")))
    assert missing.value.reason == "missing_model"
    for name in ("bad.pt", "bad.onnx"):
        (tmp_path / name).write_bytes(os.urandom(64))
        with pytest.raises(TalksetError, match="cannot be loaded"):
            make_estimator(SyncConfig(backend="syncnet", weights_path=str(tmp_path / name)))
    (tmp_path / "bad.bin").write_bytes(b"x")
    with pytest.raises(UsageError, match="neither TorchScript nor ONNX"):
        make_estimator(SyncConfig(backend="syncnet", weights_path=str(tmp_path / "bad.bin")))


def _naive_mfcc(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """The loops of python_speech_features, as it documents them."""
    scaled = samples.astype(np.float64) * 32768
    signal = np.append(scaled[0], scaled[1:] - 0.97 * scaled[:-1])
    rows = []
    points = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28)
    lines = np.floor(513 * 700 * (10 ** (points / 2595) - 1) / 16_000)
    for start in range(0, len(signal) - 399, 160):
        power = np.abs(np.fft.rfft(signal[start : start + 400], 512)) ** 2 / 512
        energies = []
        for j in range(26):
            total = 0.0
            for i in range(int(lines[j]), int(lines[j + 1])):
                total += power[i] * (i - lines[j]) / (lines[j + 1] - lines[j])
            for i in range(int(lines[j + 1]), int(lines[j + 2])):
                total += power[i] * (lines[j + 2] - i) / (lines[j + 2] - lines[j + 1])
            energies.append(total)
        row = dct(np.log(energies), type=2, norm="ortho")[:13] * (1 + 11 * np.sin(np.pi * np.arange(13) / 22))
        row[0] = np.log(power.sum())
        rows.append(row)
    return np.array(rows)


def test_cepstra_are_those_of_python_speech_features() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    np.testing.assert_allclose(mfcc(samples), _naive_mfcc(samples), rtol=1e-4, atol=1e-3)
