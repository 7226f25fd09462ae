"""Clips of a source with sound: where exactly one person who is seen speaks, and what is wrong elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.segmentation.pieces import US, Int64, Piece, reach_of, seconds, size_problem
from pipelines.segmentation.turns import Candidate, Turn, mean_odds, turns_of
from schemas.config import SegmentConfig, SpeakerConfig
from schemas.types import FaceTrack, Float32, Span

Float64 = NDArray[np.float64]

BRIEF_US: Final = 400_000
"""Parts of a shot that are shorter and in no clip are told of with their neighbour."""
WITNESS_S: Final = 1.5
"""Speech whose mean log odds count once: what one window of the judge sees. What comes later is another witness."""
BREATH_US: Final = 150_000
"""Silence in which a long talk may be cut."""
MESSAGES: Final = {
    "no_face": "no face was found",
    "no_speech": "nobody speaks",
    "off_screen": "somebody speaks while no face is seen",
    "voice_over": "the lips of no face that is seen fit the voice",
    "face_too_small": "somebody speaks, and the faces are smaller than segment.min_face_px",
}


@dataclass(frozen=True)
class Voice:
    """What is known of the sound of a source, on the source clock."""

    speech: tuple[Span, ...]
    odds: Mapping[int, tuple[Int64, Float32]]
    """Times and log odds of each track that could be judged, by number."""


@dataclass
class Shot:
    """One shot while it is divided."""

    span: Span
    tracks: Mapping[int, FaceTrack]
    voice: Voice
    config: SegmentConfig
    speaker: SpeakerConfig
    candidates: dict[int, Candidate] = field(init=False)
    """Faces that are large enough."""
    speech: list[Span] = field(init=False)

    def __post_init__(self) -> None:
        none: tuple[Int64, Float32] = np.zeros(0, np.int64), np.zeros(0, np.float32)
        self.candidates = {
            number: Candidate(reach_of(track, self.span, self.config), *self.voice.odds.get(number, none))
            for number, track in self.tracks.items()
            if size_problem(track, self.config) is None
        }
        clipped = (
            Span(max(s.start_us, self.span.start_us), min(s.end_us, self.span.end_us)) for s in self.voice.speech
        )
        self.speech = [span for span in clipped if span.end_us > span.start_us]

    def visible(self, times: Int64) -> Int64:
        """(T,) how many faces that are large enough are seen."""
        return _covering(times, [candidate.reach for candidate in self.candidates.values()])

    def small(self, times: Int64) -> Int64:
        """(T,) how many faces that are too small are seen."""
        others = [track for number, track in self.tracks.items() if number not in self.candidates]
        return _covering(times, [reach_of(track, self.span, self.config) for track in others])


def spoken_pieces(
    tracks: Mapping[int, FaceTrack],
    first: int,
    last: int,
    borders: Int64,
    voice: Voice,
    config: SegmentConfig,
    speaker: SpeakerConfig,
) -> list[Piece]:
    """The frames first..last-1 of one shot, in order: where one face speaks, and what is left, with its reason.

    tracks are those of the shot by number; borders are the frame times of the source and its end. Reasons: no_face,
    no_speech, off_screen, voice_over, face_too_small, ambiguous_faces, two_speakers, too_short.
    """
    shot = Shot(Span(int(borders[first]), int(borders[last])), tracks, voice, config, speaker)
    if shot.span.end_us - shot.span.start_us < config.min_clip_s * US:
        message = f"the shot has {seconds(shot.span)}, segment.min_clip_s is {config.min_clip_s:g} s"
        return [Piece(first, last, None, "too_short", message)]
    turns = turns_of(shot.speech, shot.span, shot.candidates, speaker)
    pieces: list[Piece] = []
    position = first
    for number, span in _spans(turns, shot):
        start = max(position, int(np.searchsorted(borders, span.start_us)))
        stop = min(last, int(np.searchsorted(borders, span.end_us)))
        if stop <= start:
            continue
        pieces += _left(position, start, borders, shot, turns)
        pieces += [_judged(number, a, b, borders, shot) for a, b in _divided(start, stop, borders, shot)]
        position = stop
    return pieces + _left(position, last, borders, shot, turns)


def _spans(turns: Sequence[Turn], shot: Shot) -> list[tuple[int, Span]]:
    """Speaker and span of each run of speech of one face, with the silence that belongs to it."""
    runs: list[tuple[int, Span]] = []
    neighbours: list[tuple[int | None, int | None]] = []
    most_us = shot.config.max_pause_s * US
    for index, turn in enumerate(turns):
        if turn.number is None:
            continue
        before = turns[index - 1].span.end_us if index else None
        after = turns[index + 1].span.start_us if index + 1 < len(turns) else None
        pause = turn.span.start_us - before if before is not None else 0
        if runs and index and turns[index - 1].number == turn.number and pause <= most_us:
            runs[-1] = turn.number, Span(runs[-1][1].start_us, turn.span.end_us)
            neighbours[-1] = neighbours[-1][0], after
        else:
            runs.append((turn.number, turn.span))
            neighbours.append((before, after))
    found = []
    for (number, span), (before, after) in zip(runs, neighbours, strict=True):
        reach = shot.candidates[number].reach
        start = span.start_us - _quiet(span.start_us - (reach.start_us if before is None else before), before, shot)
        end = span.end_us + _quiet((reach.end_us if after is None else after) - span.end_us, after, shot)
        found.append((number, Span(max(start, reach.start_us), min(end, reach.end_us))))
    return found


def _quiet(pause_us: int, neighbour: int | None, shot: Shot) -> int:
    """Silence beside a run of speech that its clip keeps: half of what lies before another speaker, up to `border_s`.

    At the border of a shot all of a short silence is kept: there is nobody else it could belong to.
    """
    border_us = round(shot.config.border_s * US)
    if neighbour is None:
        return max(0, pause_us) if pause_us <= shot.config.max_pause_s * US else border_us
    return min(max(0, pause_us) // 2, border_us)


def _divided(first: int, last: int, borders: Int64, shot: Shot) -> list[tuple[int, int]]:
    """Parts of at most `max_clip_s`, cut in the middle of pauses where there are some."""
    most, least = shot.config.max_clip_s * US, shot.config.min_clip_s * US
    parts: list[tuple[int, int]] = []
    pauses = [(a.end_us, b.start_us) for a, b in itertools.pairwise(shot.speech) if b.start_us - a.end_us >= BREATH_US]
    position = first
    while borders[last] - borders[position] > most:
        left = float(borders[last] - borders[position])
        ideal = borders[position] + left / np.ceil(left / most)
        lowest, highest = borders[position] + max(least, most / 3), borders[position] + most
        highest = min(highest, borders[last] - least)
        middles = [(a + b) // 2 for a, b in pauses if lowest <= (a + b) / 2 <= highest]
        target = min(middles, key=lambda middle: abs(middle - ideal)) if middles else min(ideal, highest)
        stop = int(np.searchsorted(borders, target, side="right")) - 1
        if stop <= position:
            break
        parts.append((position, stop))
        position = stop
    return [*parts, (position, last)]


def _judged(number: int, first: int, last: int, borders: Int64, shot: Shot) -> Piece:
    """A clip with its scores, or why it is none."""
    span = Span(int(borders[first]), int(borders[last]))
    config, speaker = shot.config, shot.speaker
    length = span.end_us - span.start_us
    if not config.min_clip_s * US <= length <= config.max_clip_s * US:
        what = "min_clip_s" if length < config.min_clip_s * US else "max_clip_s"
        message = f"one person speaks for {seconds(span)}, segment.{what} is {getattr(config, what):g} s"
        return Piece(first, last, None, "too_short", message)
    spoken = sum(max(0, min(s.end_us, span.end_us) - max(s.start_us, span.start_us)) for s in shot.speech) / length
    if spoken < config.min_speech_ratio:
        message = (
            f"somebody speaks in {spoken:.0%} of the span, segment.min_speech_ratio is {config.min_speech_ratio:g}"
        )
        return Piece(first, last, None, "no_speech", message)
    own = mean_odds(shot.candidates[number], shot.speech, span) or (0.0, 0.0)
    rivals = {other: mean_odds(c, shot.speech, span) for other, c in shot.candidates.items() if other != number}
    rival = max((odds[0] for odds in rivals.values() if odds is not None), default=None)
    if rival is None:
        seconds_spoken = spoken * length / US
        total = own[0] * max(1.0, seconds_spoken / WITNESS_S)
        if total < speaker.min_evidence:
            message = f"the lips contradict the voice: log odds {total:.1f} in {seconds_spoken:.1f} s of speech"
            return Piece(
                first, last, None, "voice_over", f"{message}, speaker.min_evidence is {speaker.min_evidence:g}"
            )
    else:
        if own[0] < speaker.min_margin:
            message = (
                f"no face fits the voice well: log odds {own[0]:.1f}, speaker.min_margin is {speaker.min_margin:g}"
            )
            return Piece(first, last, None, "voice_over", message)
        if rival >= speaker.min_margin:
            message = f"two faces speak: log odds {own[0]:.1f} and {rival:.1f}, speaker.min_margin is"
            return Piece(first, last, None, "two_speakers", f"{message} {speaker.min_margin:g}")
        if own[0] - rival < speaker.min_margin:
            message = f"the voice may be that of two faces: log odds {own[0]:.1f} and {rival:.1f}"
            return Piece(first, last, None, "ambiguous_faces", message)
    counts = shot.visible(borders[first:last])
    scores = {
        "speech_ratio": float(min(1.0, spoken)),
        "speaker_score": own[0],
        "speaker_score_min": own[1],
        "speaker_margin": None if rival is None else own[0] - rival,
        "num_faces": int(counts.max()),
        "single_face_ratio": float(np.mean(counts == 1)),
    }
    return Piece(first, last, number, scores=scores)


def _left(first: int, last: int, borders: Int64, shot: Shot, turns: Sequence[Turn]) -> list[Piece]:
    """What is in no clip: parts with one reason each, the brief ones with their neighbour."""
    if last <= first:
        return []
    labels = _labels((borders[first:last] + borders[first + 1 : last + 1]) // 2, shot, turns)
    edges = [first]
    for i in range(first + 1, last):
        if labels[i - first] != labels[i - 1 - first]:
            edges.append(i)
    parts = [[a, b] for a, b in itertools.pairwise([*edges, last])]
    while len(parts) > 1:
        lengths = [int(borders[b] - borders[a]) for a, b in parts]
        index = int(np.argmin(lengths))
        if lengths[index] >= BRIEF_US:
            break
        longer = index - 1 if index and (index + 1 == len(parts) or lengths[index - 1] >= lengths[index + 1]) else index
        label = labels[(parts[index - 1] if longer < index else parts[index + 1])[0] - first]
        a, b = parts[longer][0], parts[longer + 1][1]
        labels[a - first : b - first] = [label] * (b - a)
        parts[longer : longer + 2] = [[a, b]]
    return [Piece(a, b, None, labels[a - first], MESSAGES[labels[a - first]]) for a, b in parts]


def _labels(times: Int64, shot: Shot, turns: Sequence[Turn]) -> list[str]:
    """Why each time is in no clip."""
    speaks = _covering(times, [turn.span for turn in turns]) > 0
    unseen = np.where(speaks, "off_screen", "no_face")
    hidden = np.where(shot.small(times) > 0, "face_too_small", unseen)
    return [str(x) for x in np.where(shot.visible(times) > 0, np.where(speaks, "voice_over", "no_speech"), hidden)]


def _covering(times: Int64, spans: Sequence[Span]) -> Int64:
    """(T,) how many spans each time lies in."""
    starts = np.sort(np.array([span.start_us for span in spans], np.int64))
    ends = np.sort(np.array([span.end_us for span in spans], np.int64))
    return np.asarray(np.searchsorted(starts, times, "right") - np.searchsorted(ends, times, "right"), np.int64)
