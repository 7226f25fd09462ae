"""WhisperX in an environment of its own: transcription, alignment and speakers for many languages.

WhisperX needs other versions of numpy and torch than talkset. Its interpreter runs `whisperx_worker.py`, which is given
a file of sound and a file that says what to do, and answers with a file of words.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from annotate.align.base import Alignment
from annotate.audio import write_wav
from annotate.importers.whisperx_json import words_of
from annotate.sound import RATE, Sound, as_sound
from annotate.text import is_english
from annotate.timing import settle
from schemas.config import WhisperxConfig
from schemas.errors import TalksetError, UsageError
from schemas.types import Float32

WORKER: Final = Path(__file__).with_name("whisperx_worker.py")
INSTALL: Final = "python -m venv whisperx-env && whisperx-env/bin/pip install 'whisperx>=3.8,<4'"
"""The command that makes the environment; about 8 GB with CUDA's libraries."""

IN_RAY: Final = "ray"
"""`align.whisperx.python` where the engine makes the environment and this process is in it."""

_MAX_GIVEN_S: Final = 120.0
"""Longest sound whose transcript may be given: wav2vec2 sees all of it at once."""
_MAX_SOUND_S: Final = 6 * 3600.0


class WhisperxAligner:
    """Words of any language that WhisperX has models for; it gives no phones. See `annotate.align.base.Aligner`.

    Models are found by name in the Hugging Face cache or by path. Scores are those of wav2vec2's letters. WhisperX
    tells nothing of how well a transcript fits, so `mismatch` is NaN. Holds one process; not thread-safe.
    """

    def __init__(self, config: WhisperxConfig) -> None:
        self._config = config
        if config.python == IN_RAY:  # a driver has no such environment; a worker is looked at when it is needed
            self._python, self._version = Path(sys.executable), pinned_version(config.package)
        else:
            self._python = interpreter(config)
            self._version = installed_version(self._python)
        self._process: subprocess.Popen[str] | None = None

    @property
    def name(self) -> str:
        """Engine, version and models."""
        align = Path(self._config.align_model or "default").name
        return f"whisperx-{self._version}/{Path(self._config.model).name}+{align}"

    def align(self, samples_16k: Float32 | Sound, transcript: str, language: str | None = None) -> Alignment:
        """Time the words of a transcript, English where no language is named; see `annotate.align.base.Aligner.align`.

        Raises TalksetError(bad_transcript) for sound of more than two minutes, besides what the protocol names, and
        TalksetError(missing_model) where a model is not there.
        """
        sound = as_sound(samples_16k)
        seconds = sound.num_samples / RATE
        if not transcript.strip():
            raise TalksetError("bad_transcript", f"the transcript {transcript!r} holds no word", "Supply what is said")
        if seconds > _MAX_GIVEN_S:
            message = f"a transcript of {seconds:.0f} s of sound is too long for WhisperX, at most {_MAX_GIVEN_S:.0f} s"
            raise TalksetError("bad_transcript", message, "Give clips, choose align.backend=pocketsphinx, or give none")
        if seconds < 0.1:
            message = f"the words {transcript!r} cannot be placed in {seconds:.2f} s of sound"
            raise TalksetError("bad_transcript", message, "Check that the transcript is what is said in the clip")
        return self._result(self._ask(sound, transcript, _code(language) or "en"), recognised=False)

    def recognize(self, samples_16k: Float32 | Sound, language: str | None = None) -> Alignment:
        """Transcribe and align; see `annotate.align.base.Aligner.recognize`."""
        sound = as_sound(samples_16k)
        if not sound.num_samples:
            return Alignment((), (), recognised=True)
        return self._result(self._ask(sound, None, _code(language)), recognised=True)

    def close(self) -> None:
        """End the process; the next call starts another."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def _result(self, value: Mapping[str, Any], recognised: bool) -> Alignment:
        source = self.name + ("/recognized" if recognised else "")
        timed, untimed = settle(words_of(value, "WhisperX' answer"), source)
        return Alignment(timed, (), untimed, math.nan, recognised)

    def _ask(self, sound: Sound, transcript: str | None, language: str | None) -> Mapping[str, Any]:
        """What `whisperx_worker.run` returns, checked."""
        if sound.num_samples > _MAX_SOUND_S * RATE:
            raise UsageError(f"{sound.num_samples / RATE:.0f} s of sound at once", "Divide it into parts of six hours")
        config = self._config
        with tempfile.TemporaryDirectory(prefix="talkset-whisperx-") as folder:
            wav, request, response = (Path(folder, name) for name in ("sound.wav", "request.json", "response.json"))
            write_wav(wav, sound.read(0, sound.num_samples), RATE)
            asked = {
                "sound": str(wav),
                "transcript": transcript,
                "language": language,
                "device": config.device,
                "batch_size": config.batch_size,
                "compute_type": config.compute_type,
                "model": config.model,
                "align_model": config.align_model,
                "diarize_model": config.diarize_model,
                "local_only": config.local_only,
            }
            request.write_text(json.dumps(asked), encoding="utf-8")
            self._serve(request, response)
            try:
                answer = json.loads(response.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise _broken(f"WhisperX left no answer ({error})") from error
        if "error" in answer:
            raise _broken(f"WhisperX failed: {answer['error']}")
        return checked(answer.get("result"))

    def _serve(self, request: Path, response: Path) -> None:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps([str(request), str(response)]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError as error:
            self.close()
            raise _broken(f"the process of WhisperX ended ({error})") from error
        if line.strip() != "done":
            status = process.wait()
            self._process = None
            raise _broken(f"the process of WhisperX ended with status {status}")

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            if (found := installed_version(self._python)) != self._version:
                message = f"{self._python} has WhisperX {found}, align.whisperx.package says {self._version}"
                raise TalksetError("missing_model", message, "Let the Ray engine make the environment")
            command = [str(self._python), str(WORKER), "--serve"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            weakref.finalize(self, _end, self._process)
        return self._process


def interpreter(config: WhisperxConfig) -> Path:
    """The Python of WhisperX' environment. Raises TalksetError(missing_model) where it is not there."""
    if config.python is None:
        message = "align.whisperx.python is not set: WhisperX runs in an environment of its own"
        raise TalksetError("missing_model", message, f"Make it with: {INSTALL}; then set its bin/python")
    # not resolved: the link tells Python which environment it is in
    path = Path(config.python).expanduser().absolute()
    if not path.is_file():
        raise TalksetError("missing_model", f"align.whisperx.python={path} does not exist", f"Make it with: {INSTALL}")
    return path


def pinned_version(package: str) -> str:
    """Version that a requirement of WhisperX names. Raises UsageError for one that leaves it open."""
    match = re.fullmatch(r"whisperx\s*==\s*([\w.]+)", package.strip())
    if match is None:
        message = f"align.whisperx.package={package!r} names no exact version of WhisperX"
        raise UsageError(message, "Write it as whisperx==3.8.6")
    return match[1]


def installed_version(python: Path) -> str:
    """Version of WhisperX in an environment. Raises TalksetError(missing_model) without one."""
    code = "from importlib.metadata import version; print(version('whisperx'))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise TalksetError("missing_model", f"{python} has no WhisperX", f"Make it with: {INSTALL}")
    return done.stdout.strip()


def checked(result: Any) -> Mapping[str, Any]:
    """A result of the worker as it must be. Raises TalksetError(corrupt_data) naming what is not."""
    if not isinstance(result, Mapping) or not isinstance(result.get("segments"), list):
        raise TalksetError("corrupt_data", "WhisperX' answer has no list `segments`", "Install WhisperX 3.8 again")
    for number, segment in enumerate(result["segments"]):
        for word in segment.get("words", ()):
            start, end = word.get("start"), word.get("end")
            if (start is None) != (end is None) or (start is not None and not 0 <= start <= end):
                message = f"WhisperX' segment {number} has the word {word!r}"
                raise TalksetError("corrupt_data", message, "Install WhisperX 3.8 again")
    if not isinstance(result.get("speech"), list) or not isinstance(result.get("versions"), Mapping):
        raise TalksetError("corrupt_data", "WhisperX' answer lacks speech or versions", "Install WhisperX 3.8 again")
    return result


def _code(language: str | None) -> str | None:
    """Two letters as WhisperX names languages; English by its name too."""
    if language is None:
        return None
    return "en" if is_english(language) else language.lower().replace("_", "-").partition("-")[0]


def _broken(message: str) -> TalksetError:
    return TalksetError("missing_model", message, "Check align.whisperx: python, model, align_model, device")


def _end(process: subprocess.Popen[str]) -> None:
    """Closing its input ends the worker; one that hangs is killed."""
    if process.poll() is None:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
