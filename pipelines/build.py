"""The stages that a source and a clip pass, from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.stage import Stage
from pipelines.stages.body_fit import BodyFit
from pipelines.stages.body_landmarks import BodyLandmarks
from pipelines.stages.clips import Clips
from pipelines.stages.emotion import EmotionStage, OrdinaryStage
from pipelines.stages.fingerprint import Fingerprint
from pipelines.stages.fit import Fit
from pipelines.stages.landmarks import Landmarks
from pipelines.stages.language_model import LanguageModel
from pipelines.stages.media import Media
from pipelines.stages.motion_events import MotionEvents
from pipelines.stages.overlay import Overlay
from pipelines.stages.person import Person
from pipelines.stages.probe import Probe
from pipelines.stages.quality import Quality
from pipelines.stages.segment import Segment
from pipelines.stages.semantics import Semantics
from pipelines.stages.speakers import Speakers
from pipelines.stages.speech import Speech
from pipelines.stages.style import Style
from pipelines.stages.sync import Sync
from pipelines.stages.words import Words

SOURCE_STAGES = ("probe", "segment", "speech", "speakers", "clips", "words")
PERSON_STAGES = ("landmarks", "person")
"""What every clip must have passed before a person can be shared."""
CLIP_STAGES = (
    *("landmarks", "fit", "body_landmarks", "body_fit", "sync", "quality"),
    *("motion_events", "style", "semantics", "language_model", "ordinary", "fingerprint", "media"),
)
LABEL_STAGES = (*CLIP_STAGES, "emotion")
"""What is judged by all clips of a speaker comes after what every clip tells."""
REVIEW_STAGES = ("landmarks", "fit", "body_landmarks", "body_fit", "overlay")
"""What `overlay` needs is stored by then; only the overlay itself is made."""

_STAGES: Mapping[str, Stage[Any]] = {
    stage.name: stage
    for stage in (
        *(Probe(), Segment(), Speech(), Speakers(), Clips(), Words()),
        *(Landmarks(), Person(), Fit(), BodyLandmarks(), BodyFit()),
        *(Sync(), Quality(), MotionEvents(), Style(), Semantics(), LanguageModel()),
        *(OrdinaryStage(), EmotionStage(), Fingerprint(), Media(), Overlay()),
    )
}


def stage_versions() -> dict[str, int]:
    """Version of every stage."""
    return {name: stage.version for name, stage in _STAGES.items()}


def most_attempts(name: str) -> int | None:
    """The attempts that a stage declares; None for one that declares none, and for the fetching of sources."""
    return _STAGES[name].attempts if name in _STAGES else None


def stages_named(names: Sequence[str]) -> tuple[Stage[Any], ...]:
    """The stages of those names, in that order."""
    return tuple(_STAGES[name] for name in names)
