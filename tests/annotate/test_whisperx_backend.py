"""WhisperX for real: opt-in (`make test-whisperx`), because its environment takes 8 GB.

The aligning model is a tiny wav2vec2 of the real class with random weights, made here: what it hears is noise, so the
tests ask for order, ranges, form and words without times, not for accuracy.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_wav2vec2 import make_tiny_model

from annotate.align import make_aligner
from annotate.align.whisperx import WORKER, WhisperxAligner, checked
from annotate.audio import write_wav
from annotate.importers.whisperx_json import words_of
from schemas.config import AlignConfig, WhisperxConfig
from schemas.errors import TalksetError
from schemas.types import UntimedWord
from synthetic.speech import Utterance, Voice, synthesize

PYTHON = os.environ.get("TALKSET_WHISPERX_PYTHON", "")
real = pytest.mark.skipif(not PYTHON, reason="set TALKSET_WHISPERX_PYTHON to the interpreter of WhisperX' environment")


@pytest.fixture(scope="module")
def utterance() -> Utterance:
    return synthesize("Please bring me 21 blue books, and 1984 red ones.", Voice(), seed=4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wav2vec2")
    make_tiny_model(PYTHON, folder)
    return folder


@pytest.fixture(scope="module")
def aligner(tiny: Path) -> Iterator[WhisperxAligner]:
    config = WhisperxConfig(python=PYTHON, align_model=str(tiny), local_only=True)
    made = make_aligner("whisperx", AlignConfig(backend="whisperx", whisperx=config))
    assert isinstance(made, WhisperxAligner)
    yield made
    made.close()


@real
def test_every_word_is_timed_or_said_not_to_be(aligner: WhisperxAligner, utterance: Utterance) -> None:
    text = "Please bring me 21 blue books, and 1984 red ones."
    found = aligner.align(utterance.samples, text)
    assert len(found.words) + len(found.untimed) == len(text.split())
    assert [word.label for word in found.spoken] == text.split()
    duration_us = len(utterance.samples) * 1_000_000 // 16_000
    assert all(0 <= word.start_us < word.end_us <= duration_us for word in found.words)
    assert all(one.end_us <= two.start_us for one, two in itertools.pairwise(found.words))
    assert all(word.interpolated == math.isnan(word.score) for word in found.words)
    assert all(word.source.startswith("whisperx-3.") for word in found.words)
    assert not found.recognised
    print("words of the tiny model:", [(w.label, w.start_us, w.end_us, round(w.score, 3)) for w in found.words])


@real
def test_the_process_stays_and_survives_an_error(aligner: WhisperxAligner, utterance: Utterance) -> None:
    first = aligner.align(utterance.samples, "please bring me")
    process = aligner._process
    with pytest.raises(TalksetError, match="WhisperX failed"):
        aligner.recognize(utterance.samples, "en")  # there is no Whisper model, and none may be fetched
    assert aligner.align(utterance.samples, "please bring me") == first
    assert aligner._process is process


@real
def test_the_worker_alone_answers_a_file(tiny: Path, utterance: Utterance, tmp_path: Path) -> None:
    """One request by hand: the wheel's own voice activity finds the speech, and numbers come back as written."""
    room = np.random.default_rng(0).normal(0, 1e-4, 32_000).astype(np.float32)
    write_wav(tmp_path / "sound.wav", np.concatenate([room, utterance.samples, room]), 16_000)
    request = {
        "sound": str(tmp_path / "sound.wav"),
        "transcript": "Please bring me 21 blue books",
        "language": "en",
        "device": "cpu",
        "batch_size": 1,
        "compute_type": "default",
        "model": "",
        "align_model": str(tiny),
        "local_only": True,
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    command = [PYTHON, str(WORKER), str(tmp_path / "request.json"), str(tmp_path / "response.json")]
    subprocess.run(command, check=True, capture_output=True)
    result = checked(json.loads((tmp_path / "response.json").read_text())["result"])
    words = words_of(result, "the answer")
    assert [word.label for word in words] == ["Please", "bring", "me", "21", "blue", "books"]
    assert result["versions"]["whisperx"].startswith("3.")
    assert int(result["versions"]["numpy"].partition(".")[0]) >= 2
    begin, end = result["speech"][0][0], result["speech"][-1][1]
    assert abs(begin - 2.0 - utterance.words[0].start_us / 1e6) < 0.3
    assert abs(end - 2.0 - utterance.words[-1].end_us / 1e6) < 0.5
    print("speech:", result["speech"], "versions:", result["versions"])
    print("words:", [(word.label, word.start_us, word.end_us) for word in words])


def fake_environment(folder: Path, answer: str) -> Path:
    """An interpreter that knows a version and answers every request with the same file."""
    python = folder / "python"
    script = f"""#!/bin/sh
if [ "$1" = "-c" ]; then echo 3.8.0; exit 0; fi
while read line; do
  response=$(echo "$line" | sed 's/.*, "\\(.*\\)"\\]/\\1/')
  cat > "$response" <<'END'
{answer}
END
  echo done
done
"""
    python.write_text(script)
    python.chmod(0o755)
    return python


def made_with(folder: Path, answer: str) -> WhisperxAligner:
    return WhisperxAligner(WhisperxConfig(python=str(fake_environment(folder, answer))))


ANSWER = {
    "segments": [
        {
            "start": 0.0,
            "end": 2.0,
            "text": "a 21 b 9",
            "words": [
                {"word": "a", "start": 0.1, "end": 0.3, "score": 0.5},
                {"word": "21"},
                {"word": "b", "start": 0.9, "end": 1.2, "score": 0.25},
                {"word": "9"},
            ],
        }
    ],
    "speech": [[0.0, 2.0]],
    "language": "en",
    "versions": {"whisperx": "3.8.0"},
}


def test_words_without_times_are_placed_or_untimed(tmp_path: Path) -> None:
    aligner = made_with(tmp_path, json.dumps({"result": ANSWER}))
    found = aligner.align(np.zeros(32_000, np.float32), "a 21 b 9")
    assert [(w.label, w.start_us, w.end_us, w.interpolated) for w in found.words] == [
        ("a", 100_000, 300_000, False),
        ("21", 300_000, 900_000, True),
        ("b", 900_000, 1_200_000, False),
    ]
    assert math.isnan(found.words[1].score)
    assert found.untimed == (UntimedWord("9", 3, found.words[0].source),)
    assert math.isnan(found.mismatch)
    aligner.close()


def test_errors_of_the_other_process_are_named(tmp_path: Path) -> None:
    aligner = made_with(tmp_path, json.dumps({"error": "OSError: no such model"}))
    with pytest.raises(TalksetError, match="no such model") as caught:
        aligner.recognize(np.zeros(32_000, np.float32))
    assert caught.value.reason == "missing_model"
    aligner.close()


@pytest.mark.parametrize(
    "answer",
    [
        '{"result": {"segments": 3}}',
        '{"result": {"segments": [{"words": [{"word": "a", "start": 2, "end": 1}]}], "speech": [], "versions": {}}}',
        '{"result": {"segments": [{"words": [{"word": "a", "start": 2}]}], "speech": [], "versions": {}}}',
    ],
)
def test_an_answer_of_another_form_is_refused(tmp_path: Path, answer: str) -> None:
    aligner = made_with(tmp_path, answer)
    with pytest.raises(TalksetError, match="WhisperX") as caught:
        aligner.align(np.zeros(32_000, np.float32), "a")
    assert caught.value.reason == "corrupt_data"
    aligner.close()


def test_a_missing_environment_names_the_command(tmp_path: Path) -> None:
    for config in (WhisperxConfig(), WhisperxConfig(python=str(tmp_path / "none"))):
        with pytest.raises(TalksetError, match="venv") as caught:
            WhisperxAligner(config)
        assert caught.value.reason == "missing_model"


def test_long_sound_with_a_transcript_is_refused(tmp_path: Path) -> None:
    aligner = made_with(tmp_path, "{}")
    with pytest.raises(TalksetError, match="130 s"):
        aligner.align(np.zeros(130 * 16_000, np.float32), "a")
    with pytest.raises(TalksetError, match="no word"):
        aligner.align(np.zeros(16_000, np.float32), "  ")
