from __future__ import annotations

import os
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from annotate.audio import read_audio, write_wav
from schemas.errors import TalksetError, UsageError
from schemas.types import Float32, Int64

Float64 = NDArray[np.float64]

RATE = 44_100


def clicks(seconds: float, at_s: list[float], rate: int = RATE) -> Float32:
    """Silence with a band-limited click (a 2 ms Hann pulse) centred on each of the times."""
    samples = np.zeros(round(seconds * rate), dtype=np.float32)
    pulse = np.hanning(2 * (rate // 1000) + 1).astype(np.float32)
    for second in at_s:
        first = round(second * rate) - rate // 1000
        samples[first : first + len(pulse)] += 0.5 * pulse
    return samples


def click_times_s(samples: Float32, rate: int = 16_000) -> Float64:
    """Centres of energy of the clicks."""
    loud = np.flatnonzero(samples > 0.05)
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > rate // 100) + 1)
    return np.array([np.average(group, weights=samples[group]) / rate for group in groups if len(group)])


def write_media(
    path: Path,
    samples: Float32,
    *,
    start_s: float = 0.0,
    codec: str = "pcm_s16le",
    rate: int = RATE,
    video_s: float = 1.0,
    hole_s: tuple[float, float] | None = None,
    stereo: bool = False,
) -> Path:
    """A file whose video starts at 0 and whose sound starts at start_s; PTS within hole_s are left out."""
    with av.open(str(path), "w") as container:
        if video_s:
            video = container.add_stream("mpeg4", rate=25)
            video.width = video.height = 32
        audio = container.add_stream(codec, rate=rate)
        audio.layout = "stereo" if stereo else "mono"
        audio.time_base = Fraction(1, rate)
        for index in range(round(video_s * 25)):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            container.mux(video.encode(picture))
        if video_s:
            container.mux(video.encode(None))
        block = 4096 if codec == "flac" else 1024
        pcm = np.rint(samples * 32767).astype(np.int16)
        for first in range(0, len(pcm), block):
            if hole_s and hole_s[0] <= first / rate < hole_s[1]:
                continue
            piece = pcm[first : first + block]
            # the right channel is silent: a mean of channels halves the level
            data = np.stack([piece, np.zeros_like(piece)], axis=1).reshape(1, -1) if stereo else piece[np.newaxis]
            frame = av.AudioFrame.from_ndarray(data, format="s16", layout="stereo" if stereo else "mono")
            frame.sample_rate = rate
            frame.pts, frame.time_base = first + round(start_s * rate), Fraction(1, rate)
            if codec == "aac":
                resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
                for planar in resampler.resample(frame):
                    container.mux(audio.encode(planar))
            else:
                container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "pcm_s16le"), ("mov", "pcm_s16le"), ("mp4", "aac")])
@pytest.mark.parametrize("start_s", [0.0, 0.5])
def test_clicks_are_where_the_source_clock_says(tmp_path: Path, suffix: str, codec: str, start_s: float) -> None:
    path = write_media(tmp_path / f"a.{suffix}", clicks(3.0, [0.5, 1.25, 2.0]), start_s=start_s, codec=codec)
    samples = read_audio(path, 0, 4_000_000)
    assert samples.shape == (64_000,)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(click_times_s(samples) - start_s, [0.5, 1.25, 2.0], atol=1.1e-3)
    assert not samples[: int(start_s * 16_000) - 1000 if start_s else 0].any()


def test_span_starts_at_its_first_sample(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mov", clicks(3.0, [1.25, 2.0]), start_s=0.25)
    start_us = 1_333_333
    times = click_times_s(read_audio(path, start_us, 2_500_000))
    np.testing.assert_allclose(times + start_us / 1e6, [1.5, 2.25], atol=5e-5)


def test_number_of_samples_is_exact_for_odd_spans(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mov", clicks(1.0, [0.5]))
    for start_us, end_us, rate in [(1, 62_501, 16_000), (0, 33_333, 48_000), (40_000, 999_999, 44_100), (7, 8, 8_000)]:
        expected = -(-(end_us - start_us) * rate // 1_000_000)
        assert read_audio(path, start_us, end_us, rate).shape == (expected,)


def test_no_drift_over_ten_minutes(tmp_path: Path) -> None:
    at_s = [1.0, 60.0, 299.5, 599.0]
    path = write_media(tmp_path / "long.mkv", clicks(600.0, at_s), codec="flac", start_s=0.25)
    whole = click_times_s(read_audio(path, 0, 601_000_000))
    # Matroska keeps milliseconds: one and the same rounding at all times, no growth
    errors = whole - 0.25 - np.array(at_s)
    assert np.abs(errors).max() < 1e-3
    assert float(np.ptp(errors)) < 1e-4
    part = click_times_s(read_audio(path, 598_000_000, 600_000_000))
    np.testing.assert_allclose(part + 598.0, [599.25], atol=1.1e-3)


@pytest.mark.parametrize(("suffix", "codec"), [("mov", "pcm_s16le"), ("mp4", "aac")])
def test_a_seek_gives_what_decoding_from_the_start_gives(tmp_path: Path, suffix: str, codec: str) -> None:
    seconds = np.arange(8 * RATE) / RATE
    # a sweep, for AAC stores noise as "noise" and decodes it differently each time
    sweep = (0.4 * np.sin(2 * np.pi * (200 * seconds + 150 * seconds**2))).astype(np.float32)
    path = write_media(tmp_path / f"a.{suffix}", sweep, codec=codec, video_s=8.0)
    whole = read_audio(path, 0, 8_000_000)
    part = read_audio(path, 5_000_000, 6_000_000)
    assert np.std(part - whole[80_000:96_000]) < 1e-3
    assert np.std(part - whole[80_001:96_001]) > 0.1


def test_a_gap_in_the_timestamps_is_silence_not_a_shift(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", clicks(3.0, [0.5, 1.5, 2.5]), hole_s=(1.0, 2.0))
    samples = read_audio(path, 0, 3_000_000)
    np.testing.assert_allclose(click_times_s(samples), [0.5, 2.5], atol=1.1e-3)
    assert np.abs(samples[17_000:31_000]).max() == 0.0


def test_channels_are_averaged(tmp_path: Path) -> None:
    mono = read_audio(write_media(tmp_path / "m.mov", clicks(1.0, [0.5])), 0, 1_000_000)
    stereo = read_audio(write_media(tmp_path / "s.mov", clicks(1.0, [0.5]), stereo=True), 0, 1_000_000)
    np.testing.assert_allclose(stereo, 0.5 * mono, atol=1e-4)


def test_outside_the_sound_is_silence(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mov", clicks(1.0, [0.5]), video_s=6.0)
    assert not read_audio(path, 4_000_000, 5_000_000).any()


def test_a_resampled_tone_keeps_its_pitch_and_level(tmp_path: Path) -> None:
    seconds = np.arange(2 * RATE) / RATE
    path = write_media(tmp_path / "a.mov", (0.5 * np.sin(2 * np.pi * 1000 * seconds)).astype(np.float32))
    samples = read_audio(path, 500_000, 1_500_000)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * (0.5 + np.arange(16_000) / 16_000))
    np.testing.assert_allclose(samples, expected, atol=2e-3)


def test_reads_real_recordings(eval_data: Path) -> None:
    samples = read_audio(eval_data / "grid" / "bbaf2n.mpg", 0, 3_000_000)
    assert samples.shape == (48_000,)
    spoken = samples[int(0.95 * 16_000) : int(2.12 * 16_000)]
    assert np.std(spoken) > 5 * np.std(samples[:8_000])


def test_failures_name_their_reason(tmp_path: Path) -> None:
    silent = tmp_path / "silent.mp4"
    with av.open(str(silent), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 32
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(os.urandom(4096))
    for path, reason in [(silent, "no_audio"), (junk, "decode_error"), (tmp_path / "none.mp4", "missing_file")]:
        with pytest.raises(TalksetError) as caught:
            read_audio(path, 0, 1_000_000)
        assert caught.value.reason == reason
        assert path.name in caught.value.message
    with pytest.raises(UsageError):
        read_audio(silent, 5, 5)


def test_damage_inside_the_span_is_an_error_or_silence(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    path = write_media(tmp_path / "a.mp4", noise, codec="aac")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.pos is not None and packet.size > 50]
    for packet in packets[len(packets) // 2 : len(packets) // 2 + 6]:
        data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)
    with pytest.raises(TalksetError) as caught:
        read_audio(path, 1_000_000, 3_000_000)
    assert caught.value.reason == "decode_error"
    mended = np.abs(read_audio(path, 1_000_000, 3_000_000, mend=True)).reshape(-1, 160).max(axis=1)  # of 10 ms each
    assert 2 <= (mended == 0).sum() < 30
    assert mended[:60].min() > 0 < mended[-60:].min()


def test_wav_round_trip_and_clipping(tmp_path: Path) -> None:
    samples = np.array([0.0, 0.5, -0.5, 1.0, 2.0, -2.0], dtype=np.float32)
    path = tmp_path / "a.wav"
    write_wav(path, samples, 16_000)
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        stored: Int64 = np.frombuffer(file.readframes(10), "<i2").astype(np.int64)
    assert stored.tolist() == [0, 16384, -16384, 32767, 32767, -32768]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.wav"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TalksetError) as caught:
        write_wav(tmp_path / "missing" / "a.wav", np.zeros(4, np.float32), 16_000)
    assert caught.value.reason == "not_writable"
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(TalksetError):
        write_wav(target, np.zeros(4, np.float32), 16_000)
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]
    with pytest.raises(UsageError):
        write_wav(tmp_path / "nan.wav", np.array([np.nan], np.float32), 16_000)
