from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import annotate.sound
from annotate.audio import audio_span_us, read_audio, write_wav
from annotate.sound import FileSound, HeldSound, as_sound, spooled
from schemas.errors import TalksetError, UsageError


def test_a_spooled_file_is_the_sound_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000 * 3 + 77).astype(np.float32)
    write_wav(tmp_path / "a.wav", samples, 16_000)
    monkeypatch.setattr(annotate.sound, "BLOCK_S", 1)
    start, end = audio_span_us(tmp_path / "a.wav")
    found = spooled(lambda a, b: read_audio(tmp_path / "a.wav", a, b), start, end, tmp_path / "a.raw")
    whole = read_audio(tmp_path / "a.wav", start, end)
    assert found.num_samples == len(whole)
    np.testing.assert_allclose(found.read(0, found.num_samples), whole, atol=1 / 32768)
    np.testing.assert_allclose(found.read(15_990, 16_010), whole[15_990:16_010], atol=1 / 32768)
    assert abs(len(whole) - len(samples)) <= 1


def test_reads_are_pieces_of_the_whole(tmp_path: Path) -> None:
    samples = np.arange(-500, 500, dtype=np.float32) / 32768
    (tmp_path / "a.raw").write_bytes(np.arange(-500, 500, dtype="<i2").tobytes())
    for sound in (HeldSound(samples), FileSound(tmp_path / "a.raw")):
        assert as_sound(sound) is sound
        assert sound.num_samples == 1000
        np.testing.assert_array_equal(sound.read(3, 10), samples[3:10])


def test_what_is_no_mono_sound_is_refused() -> None:
    for samples in (np.zeros((2, 5), np.float32), np.array([np.nan], np.float32)):
        with pytest.raises(UsageError):
            as_sound(samples)


def test_length_of_files(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(24_000, np.float32), 16_000)
    assert audio_span_us(tmp_path / "a.wav") == (0, 1_500_000)
    with pytest.raises(TalksetError) as caught:
        audio_span_us(tmp_path / "none.wav")
    assert caught.value.reason == "missing_file"
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(TalksetError) as caught:
        audio_span_us(tmp_path / "text.wav")
    assert caught.value.reason == "decode_error"
