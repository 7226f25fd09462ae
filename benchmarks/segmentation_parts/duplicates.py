"""Copies of recordings in every form that they come back in, among clips that only look alike."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from reconstruction_parts.limits import Limits, table
from scipy.ndimage import gaussian_filter1d

from annotate.audio import read_audio
from annotate.fingerprint import sound_codes
from pipelines.duplicates import find_copies, group
from pipelines.segmentation.faces import FaceFinder
from reconstruct.fingerprint import face_motion
from reconstruct.landmarks import LandmarkDetector, make_detector
from reconstruct.video import Reader
from schemas.config import DuplicatesConfig, LandmarkConfig, SegmentConfig
from schemas.fingerprint import Fingerprint
from schemas.types import FaceTrack

NO_SOUND = np.zeros(0, np.uint32)
NO_MOTION = np.zeros((0, 2), np.int8)
CHANGES: dict[str, tuple[list[str], str]] = {
    "re-encoded": (["-c:v", "libx264", "-crf", "32", "-c:a", "aac", "-b:a", "48k"], "mp4"),
    "scaled": (["-vf", "scale=240:192", "-c:v", "libx264", "-c:a", "libmp3lame", "-b:a", "64k"], "mp4"),
    "mirrored": (["-vf", "hflip", "-c:v", "libx264", "-c:a", "libopus", "-b:a", "32k"], "mkv"),
    "cropped by 10 %": (["-vf", "crop=iw*0.9:ih*0.9", "-c:v", "libx264", "-c:a", "aac", "-ar", "22050"], "mp4"),
    "cut by 0.37 s": (["-ss", "0.37", "-c:v", "libx264", "-crf", "28", "-c:a", "aac", "-b:a", "64k"], "mp4"),
    "all of it at 30 fps": (
        [
            *("-vf", "hflip,crop=iw*0.9:ih*0.9,scale=256:208,fps=30", "-c:v", "libx264", "-crf", "30"),
            *("-c:a", "libmp3lame", "-b:a", "48k", "-ar", "32000"),
        ],
        "mp4",
    ),
}


def duplicates(limits: Limits) -> None:
    """Print the figures and note what misses its limit."""
    root = Path(os.environ.get("TALKSET_EVAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "eval"))
    paths = sorted(root.glob("grid*/*.mpg"))[:: 4 if limits.quick else 1]
    if not paths:
        raise SystemExit(f"no recordings in {root}; set TALKSET_EVAL_DATA")
    with tempfile.TemporaryDirectory() as folder:
        names, truth, prints = _made(paths, Path(folder), 1 if limits.quick else 2)
    parts = {
        "sound and motion": prints,
        "sound alone": [Fingerprint(p.sound, NO_MOTION) for p in prints],
        "motion alone": [Fingerprint(NO_SOUND, p.motion) for p in prints],
    }
    rows, missed, wrong = [], {}, {}
    for kind, given in parts.items():
        copies = find_copies(given, DuplicatesConfig())
        roots = group(len(given), copies)
        lost = [names[i] for i in range(len(paths), len(given)) if roots[i] != roots[truth[i]]]
        false = sum(truth[copy.first] != truth[copy.second] for copy in copies)
        missed[kind], wrong[kind] = lost, false
        rows.append((kind, [f"{len(given) - len(paths) - len(lost)} of {len(given) - len(paths)}", str(false)]))
    table(f"{len(paths)} distinct clips and their copies", ("found", "false pairs"), rows)
    if any(missed.values()):
        print(f"  not found: {', '.join(f'{kind}: {name}' for kind, lost in missed.items() for name in lost)}")
    for count in (500, 1000) if limits.quick else (2_000, 10_000):
        seconds, found = _scaled(count)
        print(f"  {count} made-up clips of 5 s, one in ten a copy: {seconds:.1f} s, {found:.2%} of the copies found")
    limits.check("copies not found", float(len(missed["sound and motion"])), 0.0, "")
    limits.check("false pairs", float(sum(wrong.values())), 0.0, "")


def _made(paths: list[Path], folder: Path, every: int) -> tuple[list[str], list[int], list[Fingerprint]]:
    """Names, place of the original, and fingerprints: the recordings, then their copies."""
    names, truth, prints = [], [], []
    with FaceFinder(SegmentConfig()) as finder, make_detector(LandmarkConfig(confidence="none")) as detector:
        for place, path in enumerate(paths):
            names.append(path.stem)
            truth.append(place)
            prints.append(_print(path, finder, detector))
        for place, path in enumerate(paths):
            for number, (change, (arguments, suffix)) in enumerate(CHANGES.items()):
                if every > 1 and (place + number) % every and number != len(CHANGES) - 1:
                    continue
                target = folder / f"{place}-{number}.{suffix}"
                command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-i", str(path), *arguments]
                subprocess.run([*command, "-threads", "1", str(target)], check=True)
                names.append(f"{path.stem} {change}")
                truth.append(place)
                prints.append(_print(target, finder, detector))
    return names, truth, prints


def _print(path: Path, finder: FaceFinder, detector: LandmarkDetector) -> Fingerprint:
    with Reader(path) as reader:
        pictures = list(reader.frames())
    zero, first = pictures[0]
    face = finder.detect(first)[0]
    box = FaceTrack(np.zeros(1, np.int64), np.array([[face.x, face.y, face.width, face.height]], np.float32))
    track = detector.detect(((pts - zero, rgb) for pts, rgb in pictures), box, first.shape[1], first.shape[0])
    end_us = pictures[-1][0] + 40_000
    return Fingerprint(sound_codes(read_audio(path, zero, end_us)), face_motion(track))


def _scaled(count: int) -> tuple[float, float]:
    """Seconds of one core, and the share of copies found, of made-up clips; each tenth copies its neighbour."""
    rng = np.random.default_rng(count)
    prints: list[Fingerprint] = []
    for place in range(count):
        if place % 10 == 9:
            known = prints[-1]
            flips = (rng.random((len(known.sound), 32)) < 0.1) @ (1 << np.arange(32, dtype=np.int64))
            noise = rng.normal(0, 5, known.motion.shape)
            motion = np.clip(known.motion + noise, -127, 127).astype(np.int8)
            prints.append(Fingerprint(known.sound ^ flips.astype(np.uint32), motion))
        else:
            motion = gaussian_filter1d(rng.normal(size=(125, 2)), 2.5, axis=0)
            motion = np.clip(np.rint(32 * motion / motion.std(axis=0)), -127, 127).astype(np.int8)
            prints.append(Fingerprint(rng.integers(1, 2**32, 230, dtype=np.uint32), motion))
    started = time.process_time()
    copies = find_copies(prints, DuplicatesConfig())
    spent = time.process_time() - started
    true = sum(copy.second == copy.first + 1 and copy.second % 10 == 9 for copy in copies)
    return spent, true / (count // 10)
