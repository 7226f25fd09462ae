"""Using a generator: any sound, any length, piece by piece or whole; what cannot be is refused with a remedy."""

from __future__ import annotations

import dataclasses
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from generator.api import MOST_VERGENCE_RAD, Speaker, load_speaker, parse_emotion, together
from generator.features import RATE_HZ, log_mel
from generator.sample import Conditions, Session, generate, stream
from schemas.errors import TalksetError, UsageError
from schemas.labels import EMOTIONS
from talkset.dataset import Dataset


def noise(seconds: float, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE_HZ)).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray, rate: int, channels: int = 1) -> Path:  # type: ignore[type-arg]
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(channels)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def nobody(speaker: Speaker) -> Conditions:
    sizes = speaker.generator.config.model.style_width, len(EMOTIONS), speaker.model.num_shape
    return Conditions(torch.zeros(1, sizes[0]), torch.zeros(1, sizes[1]), torch.zeros(1, sizes[2]), (3,))


def test_the_same_seed_gives_the_same_and_another_another(speaker: Speaker, dataset: Dataset) -> None:
    clip, sound = dataset[0], noise(3)
    one, again, other = (speaker.speak(sound, clip, "anger:0.5", seed) for seed in (1, 1, 2))
    assert np.array_equal(one.track.expression, again.track.expression)
    assert not np.array_equal(one.track.expression, other.track.expression)
    assert len(one.pts_us) == 75
    assert one.pts_us[-1] == 74 * 40_000
    bounds = speaker.model.expression_bounds
    assert (one.track.expression >= bounds[:, 0]).all()
    assert (one.track.expression <= bounds[:, 1]).all()
    assert np.array_equal(one.track.shape, clip["shape"])


def test_pieces_of_any_length_give_what_the_whole_gives(speaker: Speaker) -> None:
    sound = noise(7.3)
    conditions = nobody(speaker)
    whole = torch.cat(list(stream(speaker.generator, [sound], conditions)), dim=1)
    cuts = np.sort(np.random.default_rng(1).integers(0, len(sound), 40))
    pieces = torch.cat(list(stream(speaker.generator, np.split(sound, cuts), conditions)), dim=1)
    assert whole.shape == (1, int(7.3 * 25), speaker.generator.layout.width)
    assert torch.allclose(whole, pieces, atol=1e-4)
    features = torch.as_tensor(log_mel(sound, whole.shape[1], speaker.generator.config.rate))[None]
    assert torch.allclose(generate(speaker.generator, features, conditions, hop=10), whole, atol=1e-4)


def test_a_frame_is_final_after_the_stated_latency(speaker: Speaker) -> None:
    conditions, config = nobody(speaker), speaker.generator.config
    session = Session(speaker.generator, conditions, hop=10)
    features = torch.as_tensor(log_mel(noise(6), 150, config.rate))[None]
    final, worst = 0, 0
    for frame in range(150):
        for made in session.push(features[:, frame : frame + 1]):
            worst = max(worst, frame + 1 - final)  # what the oldest frame of this piece waited for
            final += made.shape[1]
    assert session.latency_s == pytest.approx((10 + config.lookahead) / 25) == pytest.approx(speaker.latency_s())
    assert worst == max(10 + config.lookahead, config.context + 10 + config.lookahead)  # the first waits for more
    assert 150 - final < 10 + config.lookahead


def test_windows_meet_without_a_seam(speaker: Speaker) -> None:
    config = speaker.generator.config
    features = torch.as_tensor(log_mel(noise(30), 750, config.rate))[None]
    made = generate(speaker.generator, features, nobody(speaker))[0].numpy()
    step = np.linalg.norm(np.diff(made, axis=0), axis=1)
    hop = config.window - config.lookahead
    seams = np.arange(config.context + hop, 749, hop) - 1
    elsewhere = np.delete(step, seams)
    assert step[seams].mean() < 2 * elsewhere.mean()
    assert step[seams].max() <= 1.5 * elsewhere.max()


def test_short_silent_and_stereo_sounds(speaker: Speaker, dataset: Dataset, tmp_path: Path) -> None:
    clip = dataset[0]
    silent = speaker.speak(np.zeros(2 * RATE_HZ, np.float32), clip)
    assert len(silent.pts_us) == 50
    assert np.isfinite(silent.track.expression).all()
    assert len(speaker.speak(noise(1), clip).pts_us) == 25
    assert len(speaker.speak(noise(0.01), clip).pts_us) == 1
    left, right = noise(2.0), noise(2.0, 1)
    mono = np.repeat((left + right) / 2, 3)
    both = np.repeat(np.stack([left, right], axis=1), 3, axis=0)
    made = speaker.speak(write_wav(tmp_path / "stereo.wav", both, 48_000, 2), clip)
    alike = speaker.speak(write_wav(tmp_path / "mono.wav", mono, 48_000), clip)
    assert len(made.pts_us) == 50
    assert np.allclose(made.track.expression, alike.track.expression, atol=2e-3)


def test_an_hour_needs_the_memory_of_a_minute(speaker: Speaker) -> None:
    def peak(seconds: int) -> int:
        pieces = (noise(10, seed) for seed in range(seconds // 10))
        session_hop = speaker.generator.config.window - speaker.generator.config.lookahead
        tracemalloc.start()
        frames = sum(part.shape[1] for part in stream(speaker.generator, pieces, nobody(speaker), hop=session_hop))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert frames == 25 * seconds
        return used

    assert peak(180) < 1.1 * peak(30)  # features, noise and motion of 180 s are 6 MB


def test_unreadable_sound_unknown_emotions_and_clips_that_do_not_fit(
    speaker: Speaker, dataset: Dataset, tmp_path: Path
) -> None:
    clip = dataset[0]
    corrupt = tmp_path / "corrupt.wav"
    corrupt.write_bytes(b"RIFF" + bytes(range(256)) * 4)
    with pytest.raises(TalksetError, match=r"corrupt\.wav"):
        speaker.speak(corrupt, clip)
    with pytest.raises(TalksetError, match="does not exist"):
        speaker.speak(tmp_path / "none.wav", clip)
    with pytest.raises(UsageError, match=r"unknown emotion 'joy'.*happiness"):
        speaker.speak(noise(1), clip, "joy")
    for wrong in ("anger:2", "anger:much"):
        with pytest.raises(UsageError):
            parse_emotion(wrong)
    with pytest.raises(UsageError, match="mono"):
        speaker.speak(np.zeros((100, 2), np.float32), clip)
    with pytest.raises(UsageError, match="finite"):
        speaker.speak(np.full(100, np.nan, np.float32), clip)
    with pytest.raises(UsageError, match="below zero"):
        speaker.speak(noise(1), clip, seed=-1)


def test_style_clips_without_motion_or_of_another_model_are_refused(
    speaker: Speaker, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = dataset[0]
    layout = dataclasses.replace(speaker.generator.layout, head_model="flame2020")
    other = Speaker(speaker.generator)
    other.generator = dataclasses.replace(speaker.generator, layout=layout)
    with pytest.raises(UsageError, match=r"has the head model open-head.*, the generator flame2020"):
        other.style_of(clip)
    read = type(clip).read
    monkeypatch.setattr(
        type(clip), "read", lambda self, n, w=(): np.zeros(self.num_frames, bool) if n == "valid" else read(self, n, w)
    )
    with pytest.raises(UsageError, match="0 valid frames"):
        speaker.style_of(clip)


def test_guidance_and_steps_can_be_changed(training: Path, dataset: Dataset) -> None:
    plain, strong = load_speaker(training), load_speaker(training, guidance_emotion=3.0, sample_steps=3)
    assert strong.diffusion.guidance_emotion == 3.0
    sound = noise(1)
    one, other = (s.speak(sound, dataset[0], "anger") for s in (plain, strong))
    assert not np.allclose(one.track.expression, other.track.expression)


def test_eyes_keep_one_height_and_are_never_apart() -> None:
    left = np.array([[0.2, 0.1, 0.0], [0.0, -0.3, 0.0], [0.1, -0.02, 0.0]], np.float32)
    right = np.array([[0.0, -0.1, 0.0], [0.0, 0.3, 0.0], [0.1, 0.02, 0.0]], np.float32)  # apart, crossed, together
    found_left, found_right = together(left, right)
    np.testing.assert_allclose(found_left[:, 0], found_right[:, 0])
    np.testing.assert_allclose(found_right[:, 1] - found_left[:, 1], [0, MOST_VERGENCE_RAD, 0.04], atol=1e-6)
    np.testing.assert_allclose(found_left + found_right, left + right, atol=1e-6)
