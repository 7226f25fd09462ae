"""Runs WhisperX; executed by the interpreter of WhisperX' own environment, so nothing of talkset is imported here.

    python whisperx_worker.py REQUEST.json RESPONSE.json     one request
    python whisperx_worker.py --serve                        a request and a response path on each line of stdin

A request names a 16-bit mono WAV file at 16 kHz and what to do with it; see `run`. In serving mode models stay loaded,
and a line `done` answers each request. Where another runtime keeps WhisperX' environment (a Ray actor with
`runtime_env={"py_executable": ...}`), `run` is the function to call there.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import traceback
import wave
from typing import Any

RATE = 16000


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Transcribe where there is no transcript, align, and tell who speaks where asked for.

    Keys of a request: sound; transcript (None: transcribe), language (None: detected), device (cpu, cuda), batch_size,
    compute_type, model (name or folder of a Whisper model), align_model (name or folder of a wav2vec2 model, None: that
    of the language), diarize_model (None: no speakers), local_only (never download).

    Returns segments as `whisperx.align` gives them, speech (spans in seconds of the wheel's own voice-activity model),
    language, and versions.
    """
    import whisperx

    alignment = _alignment_module()
    samples = _read(request["sound"])
    device = request["device"]
    speech = _speech(samples, device)
    language = request.get("language")
    if request.get("transcript") is None:
        heard = _asr(
            request["model"], device, request["compute_type"], language, bool(request.get("local_only"))
        ).transcribe(samples, batch_size=int(request["batch_size"]), language=language)
        segments, language = heard["segments"], heard["language"]
    else:
        if language is None:
            raise ValueError("a given transcript needs its language")
        start = max(0.0, speech[0][0] - 0.2) if speech else 0.0
        end = min(len(samples) / RATE, speech[-1][1] + 0.2) if speech else len(samples) / RATE
        segments = [{"start": start, "end": end, "text": " ".join(request["transcript"].split())}]
    result: dict[str, Any] = {"segments": []}
    if segments:
        model, metadata = _aligner(language, device, request.get("align_model"), bool(request.get("local_only")))
        result = alignment.align(segments, model, metadata, samples, device, return_char_alignments=False)
    if request.get("diarize_model"):
        from whisperx.diarize import DiarizationPipeline

        speakers = DiarizationPipeline(model_name=request["diarize_model"], device=device)(samples)
        result = whisperx.assign_word_speakers(speakers, result)
    return {
        "segments": _plain(result["segments"]),
        "speech": speech,
        "language": language,
        "versions": _versions(),
    }


def _alignment_module() -> Any:
    """WhisperX' aligner, kept from fetching NLTK's sentence splitter: talkset asks for words, not for sentences."""
    import whisperx.alignment as alignment

    class OneSentence:
        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    alignment.nltk_load = lambda *_: OneSentence()
    return alignment


@functools.lru_cache(maxsize=4)
def _aligner(language: str, device: str, name: str | None, local_only: bool) -> Any:
    import whisperx

    return whisperx.load_align_model(language, device, model_name=name, model_cache_only=local_only)


@functools.lru_cache(maxsize=1)
def _asr(name: str, device: str, compute_type: str, language: str | None, local_only: bool) -> Any:
    import whisperx

    return whisperx.load_model(name, device, compute_type=compute_type, language=language, local_files_only=local_only)


@functools.lru_cache(maxsize=1)
def _vad(device: str) -> Any:
    import torch
    from whisperx.vads.pyannote import load_vad_model

    return load_vad_model(torch.device(device))


def _speech(samples: Any, device: str) -> list[list[float]]:
    """Spans of speech in seconds, from the network that WhisperX' wheel carries."""
    import torch
    from whisperx.vads.pyannote import Binarize

    scores = _vad(device)({"waveform": torch.from_numpy(samples)[None], "sample_rate": RATE})
    spans = Binarize(onset=0.5, offset=0.363)(scores).get_timeline()
    return [[float(span.start), float(span.end)] for span in spans]


def _read(path: str) -> Any:
    import numpy

    with wave.open(path, "rb") as sound:
        if (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) != (RATE, 1, 2):
            raise ValueError(f"{path} is not 16-bit mono at 16 kHz")
        data = sound.readframes(sound.getnframes())
    return numpy.frombuffer(data, "<i2").astype(numpy.float32) / 32768.0


def _plain(value: Any) -> Any:
    """The same with Python's own numbers."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("whisperx", "torch", "numpy", "transformers")}


def _answer(request_path: str, response_path: str) -> bool:
    """Write the result, or the error, complete or not at all."""
    try:
        with open(request_path, encoding="utf-8") as stream:
            request = json.load(stream)
        response: dict[str, Any] = {"result": run(request)}
    except Exception as error:  # the other process must learn of anything that happens here
        response = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    folder = os.path.dirname(os.path.abspath(response_path))
    handle, temporary = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(response, stream)
    os.replace(temporary, response_path)
    return "error" not in response


def main(arguments: list[str]) -> int:
    """Serve one request or many; libraries may print what they like, it goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if arguments != ["--serve"]:
        return 0 if _answer(*arguments) else 1
    for line in sys.stdin:
        request_path, response_path = json.loads(line)
        _answer(request_path, response_path)
        answers.write("done\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    # beside this file lies talkset's own module of the name whisperx
    _HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != _HERE]
    sys.exit(main(sys.argv[1:]))
