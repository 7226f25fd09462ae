"""From what the stages found to rows: one for each clip, rejected span, and failed or repeated source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipelines.copies import Copies
from pipelines.download import public
from pipelines.keys import digest_of
from pipelines.ledger import DONE, FAILED
from pipelines.report import Problem
from pipelines.results import ResultStore
from pipelines.session import SourceState
from pipelines.splits import SPLITS, Member, assign_splits
from pipelines.stage import ClipItem
from pipelines.stages import event_rows
from pipelines.stages.body_fit import body_columns, body_track
from pipelines.stages.body_landmarks import body_landmarks
from pipelines.stages.emotion import emotion_columns, emotion_track, given_columns
from pipelines.stages.fingerprint import fingerprint_of
from pipelines.stages.fit import head_track
from pipelines.stages.landmarks import landmark_track
from pipelines.stages.quality import quality_columns
from pipelines.stages.style import style_columns, style_of
from pipelines.stages.sync import sound_shift_us
from pipelines.words import cut_words, word_scores, word_warnings
from pipelines.work import Step
from schemas.config import Config, SplitConfig
from schemas.errors import REASONS
from schemas.records import ClipRecord
from schemas.types import Span, Transcription

CLIP_SCORES: Final = (
    *("speech_ratio", "speaker_score", "speaker_score_min", "speaker_margin", "num_faces", "single_face_ratio"),
)
"""Index columns that come with a clip."""


@dataclass(frozen=True)
class Draft:
    """One row of the index, with where the arrays of an accepted clip are."""

    index: Mapping[str, Any]
    keys: Mapping[str, str] = field(default_factory=dict)
    """Stage -> key of its result; empty unless accepted."""
    words: Transcription | None = None
    clip: ClipItem | None = None

    @property
    def clip_id(self) -> str:
        """Its id."""
        return str(self.index["clip_id"])

    @property
    def accepted(self) -> bool:
        """Whether it carries parameters."""
        return bool(self.index["status"] == "accepted")

    def digest_parts(self) -> list[Any]:
        """JSON values that change when anything of the row changes."""
        words = [] if self.words is None else [vars(i) for i in (*self.words.spoken, *self.words.phones)]
        return [dict(self.index), dict(self.keys), words]

    def record(self, store: ResultStore) -> ClipRecord:
        """The row with its arrays. Raises TalksetError corrupt_data for a damaged stored result."""
        if not self.accepted:
            return ClipRecord(self.index)
        known = ("landmarks", "fit", "body_landmarks", "body_fit", "style", "fingerprint", *event_rows.STAGES)
        stages = [stage for stage in known if stage in self.keys]
        results = {stage: store.load(stage, self.keys[stage]) for stage in stages}
        print_ = fingerprint_of(results).text() if "fingerprint" in results else None
        whole = "body_fit" in results
        return ClipRecord(
            self.index,
            head=head_track(results),
            landmarks=landmark_track(results),
            transcription=self.words,
            events=event_rows.events_of(results),
            fingerprint=print_,
            body=body_track(results) if whole else None,
            body_landmarks=body_landmarks(results) if whole else None,
            emotion=emotion_track(results),
            style=style_of(results),
        )


def drafts(
    states: Sequence[SourceState], steps: Mapping[str, Sequence[Step]], copies: Copies, config: Config
) -> tuple[list[Draft], list[Problem]]:
    """Rows sorted by clip id, and everything that went wrong; `steps` are those of the clips by clip id.

    Counts the accepted clips of each state on the way.
    """
    places = Places(copies, _splits(states, copies, config.split), config.duplicates.action == "reject")
    rows: dict[str, Draft] = {}
    problems: list[Problem] = []
    for state in states:
        for draft, problem in _rows_of(state, steps, rows, places):
            clip_id = draft.clip_id
            number = 2
            while clip_id in rows:  # rows of another part of the manifest over the same span
                clip_id, number = f"{draft.clip_id}-{number}", number + 1
            rows[clip_id] = Draft({**draft.index, "clip_id": clip_id}, draft.keys, draft.words, draft.clip)
            state.accepted += draft.accepted
            if problem is not None:
                problems.append(problem)
    return [rows[clip_id] for clip_id in sorted(rows)], problems


@dataclass(frozen=True)
class Places:
    """Where each clip stands among the others."""

    copies: Copies
    splits: Mapping[str, str]
    """By the content of the source."""
    reject: bool
    """Whether copies are no rows of the data set."""


def _splits(states: Sequence[SourceState], copies: Copies, config: SplitConfig) -> dict[str, str]:
    """Split of every content, by its hash."""
    content = {clip.unit: clip.sha256 for state in states for clip in state.clips}
    members = [Member(state.sha256, state.source.speaker) for state in states if state.sha256 is not None]
    ties = [(content[one], content[other]) for one, other in copies.pairs]
    inherited: dict[str, str] = {}
    for unit, split in copies.split.items():
        known = inherited.get(content[unit], split)
        inherited[content[unit]] = min(known, split, key=SPLITS.index)
    return assign_splits(members, ties, inherited, config)


def build_digest(rows: Sequence[Draft], facts: Any) -> str:
    """Digest of everything that goes into the tables."""
    return digest_of([facts, [row.digest_parts() for row in rows]])


def _rows_of(
    state: SourceState, steps: Mapping[str, Sequence[Step]], taken: Mapping[str, Draft], places: Places
) -> Iterator[tuple[Draft, Problem | None]]:
    if state.duplicate_of is not None:
        message = f"the same content and span as row {state.duplicate_of.source.row}, {state.duplicate_of.source.uri}"
        yield _lost(state, f"{state.unit}-duplicate", "rejected", "manifest", "duplicate", message)
        return
    failure = state.failure
    if failure is not None:
        yield _lost(state, f"{state.unit}-failed", "failed", failure.stage, failure.reason, failure.message)
        return
    for rejection in state.value("clips")["rejections"]:
        span = Span(rejection["start_us"], rejection["end_us"])
        clip_id = f"{_source_id(state)}-{span.start_us // 1000:09d}-rejected"
        yield _lost(state, clip_id, "rejected", "clips", rejection["reason"], rejection["message"], span)
    for clip in state.clips:
        last = steps[clip.unit][-1]
        if clip.unit in taken:
            message = f"the clip {clip.unit} is also in another row of the manifest"
            yield _lost(state, clip.unit, "rejected", "manifest", "duplicate", message, clip.clip.span)
        elif last.state != DONE:
            status = "failed" if last.state == FAILED else "rejected"
            yield _lost(state, clip.unit, status, last.stage, last.reason, last.message, clip.clip.span)
        elif places.reject and clip.unit in places.copies.first:
            message = f"shows or sounds the same as the clip {places.copies.first[clip.unit]}"
            yield _lost(state, clip.unit, "rejected", "fingerprint", "duplicate", message, clip.clip.span)
        else:
            yield _accepted(state, clip, steps[clip.unit], places), None


def _common(state: SourceState) -> dict[str, Any]:
    source, info = state.source, state.value("probe")
    return {
        **given_columns(source)[0],
        "source_id": _source_id(state),
        "source_uri": public(source.uri),
        "source_sha256": state.sha256,
        "speaker": source.speaker,
        "language": source.language,
        "licence": source.licence,
        "labels": dict(sorted(source.labels.items())),
        "start_us": source.start_us,
        "end_us": source.end_us,
        "num_frames": 0,
        "fps_num": info["fps"][0] if info else None,
        "fps_den": info["fps"][1] if info else None,
        "width": info.get("width"),
        "height": info.get("height"),
        "has_audio": info["audio_rate"] is not None if info else None,
    }


def _source_id(state: SourceState) -> str:
    return state.sha256[:16] if state.sha256 else state.unit


def _lost(
    state: SourceState,
    clip_id: str,
    status: str,
    stage: str,
    reason: str | None,
    message: str | None,
    span: Span | None = None,
) -> tuple[Draft, Problem]:
    """A row without parameters."""
    reason, text = reason or "internal", message or REASONS[reason or "internal"]
    where = {} if span is None else {"start_us": span.start_us, "end_us": span.end_us}
    index = {**_common(state), **where, "clip_id": clip_id, "status": status, "reason": reason}
    index["warnings"] = _portable(state, text)
    problem = Problem(state.source.uri, state.source.row, None if span is None else clip_id, stage, reason, text)
    return Draft(index), problem


def _portable(state: SourceState, text: str) -> str:
    """A message without the path of this machine: the data set may be read on another."""
    return text if state.path is None else text.replace(str(state.path), state.source.uri)


def _accepted(state: SourceState, clip: ClipItem, steps: Sequence[Step], places: Places) -> Draft:
    values = {step.stage: step.value for step in steps}
    landmarks, fit = values["landmarks"], values["fit"]
    words, transcript, warnings = _speech(state, clip, sound_shift_us(values))
    chosen = state.value("clips")
    scores = chosen["scores"][clip.unit]
    if clip.info.audio_rate is None:
        warnings.insert(0, f"no_audio: {REASONS['no_audio']}")
    if (misread := given_columns(state.source)[1]) is not None:
        warnings.append(misread)
    if chosen["corrupt_packets"]:
        warnings.append(f"decode_error: {chosen['corrupt_packets']} damaged packets in the source")
    asked = values.get("language_model", {})
    if asked.get("reason") is not None:
        warnings.append(f"language_model: no answer ({asked['reason']})")
    sync = values.get("sync", {})
    index = {
        **_common(state),
        "clip_id": clip.unit,
        "split": places.splits[clip.sha256],
        "duplicate_group": places.copies.group.get(clip.unit),
        **{f"sync_{name}": sync.get(name) for name in ("offset_ms", "confidence", "applied_ms", "offset_after_ms")},
        **quality_columns(values),
        **body_columns(values),
        **style_columns(values),
        **emotion_columns(values),
        "start_us": clip.clip.span.start_us,
        "end_us": clip.clip.span.end_us,
        "num_frames": landmarks["num_frames"],
        "status": "accepted",
        "nme_mean": fit["nme_mean"],
        "nme_p95": fit["nme_p95"],
        **{name: fit[name] for name in ("held_out_nme", "uncertainty_mm", "jitter_px", "psnr_db")},
        "detector_jitter_px": landmarks["detector_jitter_px"],
        "valid_ratio": landmarks["valid_ratio"],
        **{name: scores.get(name) for name in CLIP_SCORES},
        **word_scores(state.value("words") or {}),
        "transcript": transcript,
        "track": chosen["tracks"][clip.unit],
        "warnings": "; ".join(warnings) or None,
        "model_sha256": fit["record"]["model_sha256"],
    }
    keys = {step.stage: step.key for step in steps}
    return Draft(index, keys, words, clip)


def _speech(state: SourceState, clip: ClipItem, shift_us: int) -> tuple[Transcription | None, str | None, list[str]]:
    """Words of the clip, its transcript, and warnings.

    The source's own transcript is the clip's where the source gave one clip and every word is in it.
    """
    alone = len(state.clips) == 1
    given = state.value("words")
    if not given:
        return None, state.source.transcript if alone else None, []
    if given["reason"] is not None:
        said_already = given["reason"] == "no_audio"
        warnings = [] if said_already else [f"{given['reason']}: {_portable(state, given['message'])}"]
        return None, state.source.transcript if alone else None, warnings
    span = clip.clip.span
    words, cut = cut_words(given, Span(span.start_us + shift_us, span.end_us + shift_us))
    warnings = [f"words cut by the border of the clip: {', '.join(cut)}"] if cut else []
    warnings += word_warnings(given)
    whole = alone and len(words.spoken) == len(given["words"]) + len(given["untimed"])
    return words, state.source.transcript if whole else words.text or None, warnings
