"""Picture and sound keep their time over an hour, at the rates that drift where a clock is index / fps."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.audio import read_audio
from reconstruct.decode import Reader, _rescale, probe

RATES = [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(50)]
HOUR_S = 3600
RATE = 48_000


def sparse(path: Path, fps: Fraction, frames: list[int], offset_s: Fraction = Fraction(0)) -> None:
    """A video that has only some of its frames, each at its true time, and a click in the sound with each of them."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "g": "1", "bf": "0"})
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        video.codec_context.time_base = 1 / fps
        sound: Any = container.add_stream("flac", rate=RATE)
        sound.layout = "mono"
        for number in frames:
            time = number / fps + offset_s
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number % 200 + 20, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number + round(offset_s * fps), 1 / fps
            container.mux(video.encode(picture))
            samples = np.zeros((1, 4608), np.int16)
            samples[0, 100] = 20_000
            block = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = RATE, round(time * RATE), Fraction(1, RATE)
            container.mux(sound.encode(block))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_no_drift_over_an_hour(tmp_path: Path, fps: Fraction, suffix: str) -> None:
    last = int(HOUR_S * fps)
    numbers = [0, 1, 2, 7, last // 7, last // 3, last // 2 + 1, last - 1, last]
    path = tmp_path / f"hour.{suffix}"
    sparse(path, fps, numbers)
    rounding_us = 1 if suffix == "mp4" else 501  # Matroska has milliseconds
    with Reader(path) as reader:
        times = [pts_us for pts_us, _ in reader.frames()]
        assert reader.info.fps is not None
    truth = [float(number / fps * 1_000_000) for number in numbers]
    np.testing.assert_allclose(times, truth, atol=rounding_us)


def test_sound_is_at_its_sample_after_an_hour(tmp_path: Path) -> None:
    path = tmp_path / "hour.mkv"
    sparse(path, Fraction(25), [0, 25 * HOUR_S])
    rate = 16_000
    click_us = HOUR_S * 1_000_000 + 100 * 1_000_000 // RATE
    samples = read_audio(path, HOUR_S * 1_000_000 - 500_000, HOUR_S * 1_000_000 + 90_000, rate)
    found_us = HOUR_S * 1_000_000 - 500_000 + int(np.argmax(np.abs(samples))) * 1_000_000 / rate
    assert abs(found_us - click_us) <= 500 + 1_000_000 / rate  # a millisecond clock, and a sample


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_late_start_is_no_truncation(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"late.{suffix}"
    sparse(path, Fraction(25), list(range(50)), offset_s=Fraction(7))
    with Reader(path) as reader:
        times = [pts_us for pts_us, _ in reader.frames()]
        assert not reader.truncated
    assert len(times) == 50
    assert probe(path).duration_us == pytest.approx(times[-1] - times[0] + 40_000, abs=60_000)


@settings(max_examples=300, deadline=None)
@given(fps=st.sampled_from(RATES), seconds=st.floats(0, HOUR_S), ticks=st.sampled_from([1, 1000, 512, 100]))
def test_ticks_become_the_nearest_microsecond(fps: Fraction, seconds: float, ticks: int) -> None:
    number = int(seconds * fps)
    base = 1 / (fps * ticks)
    found = _rescale(number * ticks, base)
    assert abs(found - Fraction(number) / fps * 1_000_000) <= Fraction(1, 2)
    assert round(Fraction(found, 1_000_000) * fps) == number  # the frame is known again by its time
