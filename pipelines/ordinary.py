"""What is ordinary for a speaker: the face at rest and the voice as it mostly is, over all clips of the speaker.

As with shared persons (`pipelines.people`), what each clip tells is a stored result, putting it together is cheap and
done anew in every run, and what comes out is part of the key of what is judged by it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.ledger import DONE
from pipelines.stage import ClipItem, Ordinary
from pipelines.work import Step
from schemas.label_config import EmotionConfig

DIGITS = 4
"""To which medians are rounded, so that sums in another order give the same key."""


def with_ordinary(
    clips: Sequence[ClipItem], steps: Mapping[str, Sequence[Step]], config: EmotionConfig
) -> list[ClipItem]:
    """The clips with what is ordinary for their speakers, where enough clips of the speaker have told."""
    told: dict[str, list[Mapping[str, Any]]] = {}
    for clip in sorted(clips, key=lambda clip: clip.unit):
        found = next((s.value for s in steps.get(clip.unit, ()) if s.stage == "ordinary" and s.state == DONE), None)
        if clip.speaker and found:
            told.setdefault(clip.speaker, []).append(found)
    known = {speaker: _medians(values) for speaker, values in told.items() if len(values) >= config.min_clips}
    return [dataclasses.replace(clip, ordinary=known.get(clip.speaker or "")) for clip in clips]


def _medians(values: Sequence[Mapping[str, Any]]) -> Ordinary:
    return Ordinary(*(_median([value[part] for value in values if value[part]]) for part in ("face", "voice")))


def _median(rows: Sequence[Sequence[float | None]]) -> tuple[float, ...] | None:
    if not rows:
        return None
    table = np.array(rows, dtype=np.float64)  # None becomes NaN
    known = np.isfinite(table).any(0)
    middle = np.full(table.shape[1], np.nan)
    middle[known] = np.nanmedian(table[:, known], axis=0)
    return tuple(float(value) for value in np.round(middle, DIGITS))
