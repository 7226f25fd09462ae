"""Speakers found again by the style of halves of clips, and descriptors of copies that were encoded again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from reconstruction_parts.limits import Limits, table

from annotate.performance import Performance, part_of
from annotate.style.contrastive import EncoderConfig
from annotate.style.descriptors import describe
from annotate.style.frames import frame_features
from annotate.style.retrieval import retrieval_top1
from annotate.style.statistical import embed
from labels_parts.clips import Clips
from schemas.labels import DESCRIPTORS
from talkset.labels.style import _judged

TOP1 = 0.8
WITHIN = 0.05
QUALITIES = {"crf 18 (as media of a data set)": 18, "crf 26": 26}
JUDGED = "crf 18 (as media of a data set)"
ONE_SPEAKER = "grid_s1"


def style(limits: Limits, clips: Clips) -> None:
    """Print retrieval beside chance, and how much descriptors change."""
    root = Path(os.environ.get("TALKSET_EVAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "eval"))
    paths = sorted([*root.glob("grid/*.mpg"), *root.glob("grid_s1/*.mpg")])
    if not paths:
        sys.exit(f"no recordings at {root}; set TALKSET_EVAL_DATA")
    seen = {
        f"{path.parent.name}/{path.stem}": clips.recorded(path, f"{path.parent.name}-{path.stem}") for path in paths
    }
    owners = [name if not name.startswith(ONE_SPEAKER) else ONE_SPEAKER for name in seen]
    _retrieval(limits, list(seen.values()), owners)
    _copies(limits, clips, root, seen)


def _retrieval(limits: Limits, seen: list[Performance], owners: list[str]) -> None:
    halves = []
    for clip in seen:
        middle = int(clip.pts_us[len(clip.pts_us) // 2])
        halves += [part_of(clip, 0, middle), part_of(clip, middle, clip.duration_us)]
    names = [owner for owner in owners for _ in range(2)]
    styles = [embed(half) for half in halves]
    vectors = np.stack([each.embedding for each in styles if each is not None])
    six = [at for at, name in enumerate(names) if name != ONE_SPEAKER]
    ten = [at for at, name in enumerate(names) if name == ONE_SPEAKER]
    rows = []
    for what, asked in (("all 32 halves", None), ("six speakers of one clip", six), ("one speaker of ten clips", ten)):
        top1, chance = retrieval_top1(vectors, names, asked)
        rows.append((what, [top1, chance]))
    print("  query: a half; gallery: the 31 other halves, that of the same clip among them")
    table("statistical embedding, same speaker first", ["top-1", "chance"], rows)
    limits.check("style: top-1 of the speaker over halves", retrieval_top1(vectors, names)[0], TOP1, "", at_least=True)
    features = [frame_features(clip) for clip in seen]
    steps = 40 if limits.quick else 400
    top1, chance = _judged([each for each in features if each is not None], owners, EncoderConfig(steps=steps))
    print(f"  contrastive encoder trained on first halves, second halves asked: {top1:.2f} (chance {chance:.2f})")


def _copies(limits: Limits, clips: Clips, root: Path, seen: dict[str, Performance]) -> None:
    changed: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in list(seen)[: 2 if limits.quick else None]:
            whole = describe(seen[name])
            for quality, crf in QUALITIES.items():
                copy = Path(folder) / f"{Path(name).stem}-{crf}.mp4"
                ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(root / f"{name}.mpg")]
                subprocess.run([*ffmpeg, "-c:v", "libx264", "-crf", str(crf), "-c:a", "aac", str(copy)], check=True)
                again = describe(clips.recorded(copy, f"{Path(name).stem}-crf{crf}"))
                for each in DESCRIPTORS:
                    one, other = whole[each.name], again[each.name]
                    if one is not None and other is not None:
                        apart = abs(one - other) / abs(one) if one else float(one != other)
                        changed.setdefault(each.name, {}).setdefault(quality, []).append(apart)
    rows: list[tuple[str, list[float | str]]] = []
    for name, by in changed.items():
        cells: list[float | str] = [
            100 * value for quality in QUALITIES for value in (float(np.median(by[quality])), max(by[quality]))
        ]
        rows.append((name, cells))
    heads = [f"{part} {crf}" for crf in QUALITIES.values() for part in ("median", "worst")]
    table("change of descriptors on re-encoded copies, percent of the value, by crf", heads, rows)
    medians = {name: float(np.median(by[JUDGED])) for name, by in changed.items()}
    for name, value in medians.items():
        limits.check(f"{name} on re-encoded copies, median", 100 * value, 100 * WITHIN, "%")
