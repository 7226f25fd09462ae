"""Who speaks, among people side by side of whom one is heard; and voices whose owner is not seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from reconstruction_parts.limits import Limits, table

from pipelines.segmentation.scan import Scan, unpack_scan
from pipelines.segmentation.spoken import Shot, Voice
from pipelines.segmentation.survey import Survey
from pipelines.segmentation.turns import turns_of
from pipelines.stages.speakers import unpack_odds
from pipelines.stages.speech import heard_speech
from schemas.config import Config
from schemas.types import Span
from segmentation_parts.material import Film, Recording, concatenated, recordings, side_by_side, write_film
from segmentation_parts.survey import surveyed, work_folder

SCENES = 8
Counts = NDArray[np.float64]
Owner = tuple[Span, int | None]


def speakers(limits: Limits, seed: int = 0) -> None:
    """Print how often the speaker is found, frame by frame and clip by clip, beside two plain methods."""
    people = recordings("grid") + recordings("grid_s1")
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, list[float | str]]] = []
    total = np.zeros(6)
    voice_over = 0.0
    with work_folder() as folder:
        for panels in (2, 3):
            for still in (False, True):
                counts = np.zeros(6)
                for number in range(1 if limits.quick else 2):
                    scenes = [_scene(people, panels, still, True, rng) for _ in range(2 if limits.quick else SCENES)]
                    film = concatenated(scenes)
                    counts += _measured(folder, f"{panels}{still}{number}", film, panels)
                rows.append((f"{panels} people, the others {'listen' if still else 'mouth words'}", _shown(counts)))
                total += counts
            scenes = [_scene(people, panels, False, False, rng) for _ in range(2 if limits.quick else 2 * SCENES)]
            counts = _measured(folder, f"{panels}off", concatenated(scenes), panels)
            rows.append((f"{panels} people, a voice from elsewhere", _shown(counts)))
            voice_over += counts[3]
        rows += [(name, _shown(counts)) for name, counts in _alone(people, folder, limits.quick, rng)]
    heads = ["frames", "ours", "biggest", "envelope", "clips", "right"]
    table("who speaks: frames with speech, share that is right; clips", heads, rows, 44)
    limits.check("frames with speech whose speaker is right", total[1] / total[0], 0.9, "", at_least=True)
    limits.check("clips of another person than the speaker", total[3] - total[2], 0, "clips")
    limits.check("clips that were made of scenes with a speaker", total[3], 1, "clips", at_least=True)
    limits.check("clips of voices from elsewhere", voice_over, 0, "clips")


def _alone(
    people: list[Recording], folder: Path, quick: bool, rng: np.random.Generator
) -> Iterator[tuple[str, Counts]]:
    """One moving face: its own voice, another one, or both by turns. What passes is told, not limited."""
    count = 2 if quick else 2 * SCENES
    films = {"own": (True,), "other": (False,), "turns": (True, False)}
    names = {"own": "1 person, the own voice", "other": "1 person, a voice from elsewhere", "turns": "both by turns"}
    for name, seen in films.items():
        scenes = [_scene(people, 1, False, seen[i % len(seen)], rng) for i in range(count)]
        yield f"{names[name]}: {count} scenes", _measured(folder, f"1{name}", concatenated(scenes), 1)


def _scene(people: list[Recording], panels: int, still: bool, seen: bool, rng: np.random.Generator) -> Film:
    chosen = [people[i] for i in rng.permutation(len(people))[: panels + 1]]
    heard = chosen[int(rng.integers(panels))] if seen else chosen[panels]
    return side_by_side(chosen[:panels], heard, still, rng)


def _shown(counts: Counts) -> list[float | str]:
    frames, ours, right, clips, biggest, envelope = counts.tolist()
    shares = [f"{value / frames:.3f}" if frames else "-" for value in (ours, biggest, envelope)]
    return [f"{frames:.0f}", *shares, f"{clips:.0f}", f"{right:.0f}"]


def _measured(folder: Path, name: str, film: Film, panels: int) -> Counts:
    """Frames with speech, those right; clips right, clips; frames right by the biggest face, by the envelope."""
    path = folder / f"{name}.mp4"
    write_film(path, film)
    found = surveyed(path, folder / "results")
    scan = unpack_scan(found.result("segment"))
    width = film.pictures[0].shape[1] / panels
    panel = [int((track.face.box_xywh[:, 0] + track.face.box_xywh[:, 2] / 2).mean() / width) for track in scan.tracks]
    counts = np.zeros(6)
    plain = _envelope_choice(found, scan)
    for time, number, shot in _decided(found, scan):
        truth = next((who for span, who in film.speaker if span.start_us <= time < span.end_us), None)
        if truth is None:
            continue
        own = [i for i, track in enumerate(scan.tracks) if shot.start_us <= track.face.pts_us[0] < shot.end_us]
        counts[0] += 1
        counts[1] += number is not None and panel[number] == truth
        counts[4] += bool(own) and panel[own[0]] == truth
        counts[5] += bool(own) and panel[max(own, key=lambda i: plain[i])] == truth
    chosen = found.value("clips")
    for clip in chosen["clips"]:
        middle = (clip["start_us"] + clip["end_us"]) // 2
        truth = next((who for span, who in film.speaker if span.start_us <= middle < span.end_us), None)
        counts[2] += panel[chosen["tracks"][clip["clip_id"]]] == truth
        counts[3] += 1
    return counts


def _decided(found: Survey, scan: Scan) -> Iterator[tuple[int, int | None, Span]]:
    """Time, track and shot of each frame with speech."""
    config = Config()
    speech = heard_speech(found.value("speech")) or ()
    voice = Voice(speech, unpack_odds(found.result("speakers")))
    faces = {number: track.face for number, track in enumerate(scan.tracks)}
    for span in scan.shots:
        own = {n: face for n, face in faces.items() if span.start_us <= face.pts_us[0] < span.end_us}
        shot = Shot(span, own, voice, config.segment, config.speaker)
        for turn in turns_of(shot.speech, span, shot.candidates, config.speaker):
            for time in scan.pts_us[(scan.pts_us >= turn.span.start_us) & (scan.pts_us < turn.span.end_us)]:
                yield int(time), turn.number, span


def _envelope_choice(found: Survey, scan: Scan) -> list[float]:
    """The peer: correlation of the mouth's opening with the loudness, the best within 120 ms."""
    result = found.result("speech")
    level, start_us = result.arrays["envelope_db"], result.value["start_us"]
    times = start_us + np.arange(len(level)) * 10_000
    scores = []
    for track in scan.tracks:
        good = np.isfinite(track.mouth[:, 0])
        if good.sum() < 10:
            scores.append(-1.0)
            continue
        opening, pts = track.mouth[good, 0], track.mouth_us[good]
        lags = range(-120_000, 120_001, 40_000)
        scores.append(max(float(np.corrcoef(opening, np.interp(pts + lag, times, level))[0, 1]) for lag in lags))
    return scores
