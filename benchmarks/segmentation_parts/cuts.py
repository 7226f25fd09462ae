"""Cuts, fades and dissolves against their truth, and clips whose frames carry their number."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from reconstruction_parts.limits import Limits, table

from pipelines.segmentation.clip_json import clip_from_json
from pipelines.segmentation.scan import Scan, unpack_scan
from reconstruct.video import cut_video, frames
from segmentation_parts.material import Film, Recording, joined, number_of, numbered, recordings, write_film
from segmentation_parts.survey import surveyed, work_folder

VARIANTS = ("25 fps", "variable rate", "rotated", "start offset")
KINDS = ("cut", "dissolve", "black", "white")
PEOPLE = 9
SOFT_SHARE = 0.5
"""Of a fade that a found one must share, and the other way round."""


def cuts(limits: Limits, seed: int = 0) -> None:
    """Print precision and recall of cuts and fades, and whether clips hold exactly the frames of one shot."""
    people = recordings("grid") + recordings("grid_s1")
    rng = np.random.default_rng(seed)
    rows, sums = [], np.zeros(6)
    frames_wrong = clips = mixed = 0
    with work_folder() as folder:
        for variant in VARIANTS[:2] if limits.quick else VARIANTS:
            counts = np.zeros(6)
            for number in range(1 if limits.quick else 2):
                film = _film(people, variant, rng)
                path = _written(folder, f"{VARIANTS.index(variant)}-{number}", film, variant)
                found = surveyed(path, folder / "results")
                scan = unpack_scan(found.result("segment"))
                counts += _compared(film, scan)
                for value in found.value("clips")["clips"]:
                    clip = clip_from_json(value)
                    cut = folder / "cut.mp4"
                    cut_video(path, cut, clip.span.start_us, clip.span.end_us)
                    shown = [number_of(rgb) for _, rgb in frames(cut)]
                    low, high = np.searchsorted(scan.pts_us, [clip.span.start_us, clip.span.end_us])
                    frames_wrong += shown != list(range(int(low), int(high)))
                    mixed += any(low < cut < high for cut in film.hard)
                    mixed += any(min(high, b) > max(low, a) + 2 for a, b in film.soft)
                    clips += 1
            rows.append((variant, [*_rates(counts)]))
            sums += counts
    table("cuts and fades", ["cut prec.", "cut recall", "fade prec.", "fade recall"], rows)
    precision, recall, soft_precision, soft_recall = _rates(sums)
    limits.check("hard cuts: precision at one frame", precision, 1.0, "", at_least=True)
    limits.check("hard cuts: recall at one frame", recall, 1.0, "", at_least=True)
    limits.check("fades and dissolves: recall", soft_recall, 0.9, "", at_least=True)
    limits.check("fades and dissolves: precision", soft_precision, 0.9, "", at_least=True)
    limits.check("clips that were made", clips, 4 if limits.quick else 30, "clips", at_least=True)
    limits.check("clips whose frames are not the numbered ones", frames_wrong, 0, "clips")
    limits.check("clips across a cut or in a fade", mixed, 0, "clips")


def _film(people: list[Recording], variant: str, rng: np.random.Generator) -> Film:
    order = [people[i] for i in rng.permutation(len(people))[:PEOPLE]]
    kinds = [KINDS[i % len(KINDS)] for i in range(PEOPLE - 1)]
    joins = [(kinds[i], int(rng.integers(6, 20))) for i in rng.permutation(PEOPLE - 1)]
    film = joined(order, joins, 0.15 if variant == "variable rate" else 0.0, rng)
    film.pictures = numbered(film.pictures)
    return film


def _written(folder: Path, name: str, film: Film, variant: str) -> Path:
    path = folder / f"{name}.mp4"
    if variant == "rotated":
        shown, film.pictures = film.pictures, [np.ascontiguousarray(np.rot90(p)) for p in film.pictures]
        write_film(path, film)
        film.pictures = shown
        return _remuxed(path, folder / f"{name}-r.mp4", ["-display_rotation", "-90"], ["-c", "copy"])
    write_film(path, film)
    if variant == "start offset":  # the sound begins 0.2 s after the picture, both near 7 s of the container
        late = ["-ss", "0.2", "-itsoffset", "0.2", "-i", str(path), "-map", "0:v", "-map", "1:a"]
        target = folder / f"{name}-o.mkv"
        return _remuxed(path, target, [], [*late, "-c:v", "copy", "-c:a", "aac", "-output_ts_offset", "7"])
    return path


def _remuxed(path: Path, target: Path, before: list[str], after: list[str]) -> Path:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *before, "-i", str(path), *after]
    subprocess.run([*command, str(target)], check=True)
    return target


def _compared(film: Film, scan: Scan) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Found and true cuts, hits; the same of fades."""
    pts = scan.pts_us
    assert len(pts) == len(film.pictures), f"{len(pts)} frames of {len(film.pictures)}"
    soft = [tuple(np.searchsorted(pts, [s.start_us, s.end_us]).tolist()) for s in scan.transitions]
    ends = {b for _, b in soft}
    starts = [int(np.searchsorted(pts, shot.start_us)) for shot in scan.shots]
    hard = [start for start in starts if start and start not in ends]
    hits = sum(any(abs(a - b) <= 1 for b in hard) for a in film.hard)
    caught = sum(any(_shared(a, b) > SOFT_SHARE * (a[1] - a[0]) for b in soft) for a in film.soft)
    good = sum(any(_shared(a, b) > SOFT_SHARE * (b[1] - b[0]) for a in film.soft) for b in soft)
    false = sum(not any(abs(a - b) <= 1 for a in film.hard) for b in hard)
    return np.array([len(film.hard), hits, false, len(film.soft), caught, len(soft) - good], np.float64)


def _shared(one: tuple[int, int], other: tuple[int, int]) -> int:
    return min(one[1], other[1]) - max(one[0], other[0])


def _rates(counts: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float, float, float]:
    """Precision and recall of cuts, then of fades."""
    cuts, hits, false, fades, caught, wrong = counts.tolist()
    return hits / max(1, hits + false), hits / max(1, cuts), caught / max(1, caught + wrong), caught / max(1, fades)
