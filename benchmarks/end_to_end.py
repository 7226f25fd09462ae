"""`talkset run` over the GRID recordings: clips, landmark error, word boundaries and frames per second.

The peer, in the same run on the same files, is what every script in the field starts with: decode each video and run
MediaPipe's face mesh on every frame, one after the other, with nothing fitted, aligned or stored.

    python benchmarks/end_to_end.py [--engine ray|local] [--workers N] [--keep FOLDER]

Needs the evaluation recordings (TALKSET_EVAL_DATA, by default ../shared/eval beside the checkout). Exits with 1 when a
clip is missing, the mean NME is above 1.3 %, words are off by more than 40 ms or fewer than 20 frames/s come through.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.run import run
from reconstruct.decode import frames
from reconstruct.quiet import quiet, solutions
from schemas.config import Config
from talkset.dataset import Dataset, open_dataset

REPOSITORY = Path(__file__).resolve().parents[1]
ALIGN_UNIT_MS = 1000 / 25000


def grid_videos() -> dict[Path, str]:
    """Video -> transcript of every GRID recording."""
    root = Path(os.environ.get("TALKSET_EVAL_DATA", REPOSITORY.parent / "shared" / "eval"))
    found = {}
    for folder in (root / "grid", root / "grid_s1"):
        table = folder / "transcripts.tsv"
        if not table.is_file():
            sys.exit(f"no evaluation recordings at {root}; set TALKSET_EVAL_DATA")
        for line in table.read_text(encoding="utf-8").splitlines():
            name, transcript = line.split("\t")[:2]
            found[folder / f"{name}.mpg"] = transcript
    return found


def write_manifest(path: Path, videos: dict[Path, str]) -> None:
    """The manifest of the recordings."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["uri", "transcript", "language", "licence", "speaker"])
        for video, transcript in videos.items():
            speaker = "s1" if video.parent.name == "grid_s1" else video.stem
            writer.writerow([str(video), transcript, "en", "CC-BY-4.0", speaker])


def true_boundaries_ms(align: Path) -> NDArray[np.float64]:
    """(words, 2) start and end in ms, silences left out."""
    rows = (line.split() for line in align.read_text().splitlines())
    return np.array([[int(a), int(b)] for a, b, word in rows if word not in ("sil", "sp")]) * ALIGN_UNIT_MS


def word_errors_ms(dataset: Dataset) -> dict[str, float]:
    """File name -> mean boundary distance, for the recordings with alignments."""
    errors = {}
    for clip in dataset:
        align = Path(str(clip.index["source_uri"])).with_suffix(".align")
        if align.is_file():
            start = clip.index["start_us"]
            timed = [word for word in clip.words() if word["start_us"] is not None]
            found = np.array([[word["start_us"] + start, word["end_us"] + start] for word in timed]) / 1000
            truth = true_boundaries_ms(align)
            errors[align.stem] = float(np.abs(found - truth).mean()) if found.shape == truth.shape else float("inf")
    return errors


def peer_frames_per_second(videos: dict[Path, str]) -> float:
    """Decode and detect only, one video after the other."""
    mesh_module = solutions().face_mesh
    count, started = 0, time.perf_counter()
    for video in videos:
        with quiet():
            mesh = mesh_module.FaceMesh(max_num_faces=1, refine_landmarks=True)
            mesh.process(np.zeros((64, 64, 3), np.uint8))
        for _, rgb in frames(video):
            mesh.process(rgb)
            count += 1
        mesh.close()
    return count / (time.perf_counter() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="ray", choices=["ray", "local"])
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--keep", type=Path, default=None, help="write the data set here instead of a temporary folder")
    arguments = parser.parse_args()
    videos = grid_videos()
    base = Config(name="grid", licence="CC-BY-4.0")
    engine = dataclasses.replace(base.run, engine=arguments.engine, workers=arguments.workers)
    config = dataclasses.replace(base, run=engine)
    with tempfile.TemporaryDirectory() as scratch:
        output = arguments.keep or Path(scratch) / "dataset"
        manifest = Path(scratch) / "grid.csv"
        write_manifest(manifest, videos)
        report = run(manifest, output, config)
        dataset = open_dataset(output)
        index = dataset.index.to_pandas()
        words = word_errors_ms(dataset)
        repeated = run(manifest, output, config)
    whole = int((index.num_frames == 75).sum())
    nme = 100 * float(index.nme_mean.mean())
    word_ms = float(np.mean(list(words.values())))
    peer = peer_frames_per_second(videos)
    print(f"clips accepted            {report.accepted} of {len(videos)}, with all 75 frames {whole}")
    print(f"valid frames              {100 * float(index.valid_ratio.mean()):.2f} %")
    print(f"NME, mean of clips        {nme:.3f} % (worst clip {100 * float(index.nme_mean.max()):.3f} %)")
    for name, error in sorted(words.items()):
        print(f"  words of {name:<16} {error:6.1f} ms")
    print(
        f"word boundaries           {word_ms:.1f} ms mean over {len(words)} clips, worst {max(words.values()):.1f} ms"
    )
    speed = report.frames_per_second
    print(f"end to end                {speed:.1f} frames/s ({report.seconds:.1f} s, {arguments.engine})")
    for name, stage in report.stages.items():
        print(f"  {name:<12} {stage.seconds:7.1f} s summed over the workers")
    print(f"peer: decode + face mesh  {peer:.1f} frames/s, nothing fitted or stored")
    print(
        f"overlays                  {report.frames / max(report.overlay_seconds, 1e-9):.1f} frames/s, not counted above"
    )
    print(
        f"same run again            {repeated.seconds:.2f} s, {repeated.frames_made} frames, "
        f"written: {repeated.written}"
    )
    kept = whole == len(videos) and nme <= 1.3 and word_ms <= 40 and speed >= 20
    print(f"limits (all clips whole, NME 1.3 %, words 40 ms, 20 frames/s): {'kept' if kept else 'BROKEN'}")
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
