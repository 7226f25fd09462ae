"""An hour of synthetic speech with known words: made, aligned in a process of its own, and compared."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from annotate.align import make_aligner
from annotate.sound import FileSound
from schemas.types import Interval
from synthetic.speech import synthesize
from synthetic.talker import random_talker


def make_lecture(folder: Path, seconds: float, different: int = 60) -> tuple[Path, str, list[Interval]]:
    """A file of 16-bit samples, its text and its words: that many utterances, again and again, pauses among them."""
    rng = np.random.default_rng(0)
    spoken = []
    for seed in range(different):
        talker = random_talker(seed)
        spoken.append((talker.text, synthesize(talker.text, talker.voice, seed)))
    path = folder / f"lecture-{seconds:.0f}.raw"
    texts: list[str] = []
    words: list[Interval] = []
    count = 0
    with path.open("wb") as stream:
        while count < seconds * 16_000:
            text, made = spoken[len(texts) % different]
            pause = 160_000 if len(texts) % 37 == 36 else int(rng.uniform(0.05, 1.0) * 16_000)
            samples = np.concatenate([made.samples, np.zeros(pause, np.float32)])
            samples += rng.normal(0, 3e-4, len(samples)).astype(np.float32)
            stream.write(np.rint(samples * 32767).astype("<i2").tobytes())
            offset = count * 1_000_000 // 16_000
            words += [Interval(w.start_us + offset, w.end_us + offset, w.label, 1.0, False, "") for w in made.words]
            texts.append(text)
            count += len(samples)
    return path, " ".join(texts), words


def aligned_elsewhere(path: Path, text: str) -> dict[str, float | list[list[object]]]:
    """Words, processor seconds and peak memory of aligning a file in a process of its own."""
    text_path = path.with_suffix(".txt")
    text_path.write_text(text, encoding="utf-8")
    command = [sys.executable, str(Path(__file__).parents[1] / "words.py"), "--job", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float | list[list[object]]] = json.loads(done.stdout)
    return result


def job(path: Path) -> dict[str, object]:
    """What the other process does."""
    started = time.process_time()
    found = make_aligner("pocketsphinx").align(FileSound(path), path.with_suffix(".txt").read_text(encoding="utf-8"))
    return {
        "words": [[word.label, word.start_us, word.end_us] for word in found.words],
        "untimed": len(found.untimed),
        "seconds": time.process_time() - started,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
