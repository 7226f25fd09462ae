"""Clips that share a person: what each tells of it is gathered first, then each is fitted with what all of them say.

The evidence of a clip is a stored result like any other; putting it together is cheap, deterministic, and done anew in
every run. What comes out is part of the key of a clip's fit, so a clip that joins or changes redoes the fits of its
own people and no others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.build import CLIP_STAGES, LABEL_STAGES, PERSON_STAGES
from pipelines.ledger import DONE
from pipelines.ordinary import with_ordinary
from pipelines.results import Result, ResultStore, unpack
from pipelines.session import Session, merged
from pipelines.stage import ClipItem
from pipelines.work import Step
from schemas.config import FitConfig

if TYPE_CHECKING:
    from reconstruct.fitting.problem import Known
    from reconstruct.person import Evidence

Steps = dict[str, tuple[Step, ...]]


def take_clips_of_people(session: Session, clips: Sequence[ClipItem]) -> tuple[list[ClipItem], Steps]:
    """Take clips through all clip stages; the clips with the persons they were fitted with, and steps by clip id.

    A clip of which nothing can be told ends at the person stage and has no say in the others. Raises TalksetError
    corrupt_data for damaged stored evidence.
    """
    fitted, steps = _take_fitted(session, clips)
    if not session.config.emotion.enabled:
        return fitted, steps
    known = with_ordinary(fitted, steps, session.config.emotion)
    good = [clip for clip in known if steps[clip.unit][-1].state == DONE]
    judged = session.take_clips(good, "emotions", LABEL_STAGES, counted=CLIP_STAGES)
    return known, {unit: _joined(taken, judged.get(unit, ())) for unit, taken in steps.items()}


def _joined(before: tuple[Step, ...], after: tuple[Step, ...]) -> tuple[Step, ...]:
    """Steps of one pass over a clip and of a later one that goes further; what the first one made counts as made."""
    names = {step.stage for step in after}
    return (*(step for step in before if step.stage not in names), *merged(before, after))


def _take_fitted(session: Session, clips: Sequence[ClipItem]) -> tuple[list[ClipItem], Steps]:
    """Take clips through the stages that need no other clip but for the person."""
    if not shares(session.config.fit):
        return list(clips), session.take_clips(clips, "clips", CLIP_STAGES)
    first = session.take_clips(clips, "people", PERSON_STAGES)
    told = [clip for clip in clips if first[clip.unit][-1].state == DONE]
    known = known_people(told, first, session.store, session.config.fit)
    fitted = [dataclasses.replace(clip, person=known.get(clip.unit)) for clip in clips]
    rest = [clip for clip in fitted if clip.person is not None]
    second = session.take_clips(rest, "clips", CLIP_STAGES, counted=PERSON_STAGES)
    steps = {
        unit: (*taken, *(step for step in second.get(unit, ()) if step.stage not in PERSON_STAGES))
        for unit, taken in first.items()
    }
    return fitted, steps


def shares(config: FitConfig) -> bool:
    """Whether a clip's shape or focal length depends on other clips."""
    return config.shape_from != "clip" or config.focal_from != "clip"


def person_of(clip: ClipItem, config: FitConfig) -> str:
    """What clips of one person have in common: the speaker, else the source; for the focal length alone the source."""
    if config.shape_from == "speaker" and clip.speaker:
        return f"speaker {clip.speaker}"
    return f"source {clip.sha256}"


def stored_people(session: Session, clips: Sequence[ClipItem]) -> list[ClipItem]:
    """The clips with the persons they are fitted with and what is ordinary for their speakers, as far as that is
    stored; nothing is made.
    """
    fitted = _stored_fits(session, clips)
    config = session.config.emotion
    if not config.enabled or config.rest_from != "speaker" or not any(clip.speaker for clip in fitted):
        return fitted
    return with_ordinary(fitted, session.look_at_clips(fitted, CLIP_STAGES), config)


def _stored_fits(session: Session, clips: Sequence[ClipItem]) -> list[ClipItem]:
    if not shares(session.config.fit):
        return list(clips)
    steps = session.look_at_clips(clips, PERSON_STAGES)
    told = [clip for clip in clips if steps[clip.unit][-1].state == DONE]
    known = known_people(told, steps, session.store, session.config.fit)
    return [dataclasses.replace(clip, person=known.get(clip.unit)) for clip in clips]


def known_people(clips: Sequence[ClipItem], steps: Steps, store: ResultStore, config: FitConfig) -> dict[str, Known]:
    """Shape and focal length by clip id, of clips whose evidence is stored."""
    from reconstruct.person import fuse, fuse_focal

    people: dict[str, list[ClipItem]] = {}
    for clip in clips:
        people.setdefault(person_of(clip, config), []).append(clip)
    known: dict[str, Known] = {}
    for _, members in sorted(people.items()):
        evidence = [_evidence(clip, steps[clip.unit][-1], store) for clip in members]
        if config.shape_from == "speaker":
            lenses = {clip.unit: clip.sha256 if config.focal_from == "source" else clip.unit for clip in members}
            known |= fuse(evidence, lenses, config)
        else:
            known |= fuse_focal(evidence, config)
    return known


def _evidence(clip: ClipItem, step: Step, store: ResultStore) -> Evidence:
    from reconstruct.person import Evidence

    result = store.load(step.stage, step.key)
    stored = unpack(Evidence, Result(result.value["record"], result.arrays))
    return dataclasses.replace(stored, clip_id=clip.unit)
