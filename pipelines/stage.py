"""What a stage is, and what it is given: items of work, models, and the results of earlier stages."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pipelines.declarations import Environment, Resources
from pipelines.keys import clip_digest, result_key, section_digest
from pipelines.results import Result
from schemas.config import Config
from schemas.types import Clip, Source, Transcription, VideoInfo

if TYPE_CHECKING:
    from annotate.active_speaker.base import ActiveSpeaker
    from annotate.align.base import Aligner
    from annotate.sync import SyncEstimator
    from pipelines.segmentation.cuts import CutFinder
    from pipelines.segmentation.faces import FaceFinder
    from pipelines.segmentation.mouth import MouthReader
    from reconstruct.embedding import Embedding
    from reconstruct.fitting.problem import Known
    from reconstruct.landmarks.base import LandmarkDetector
    from reconstruct.models.head_model import HeadModel


@dataclass(frozen=True)
class SourceItem:
    """A source video whose content is known."""

    unit: str
    source: Source
    path: Path
    sha256: str

    @property
    def uri(self) -> str:
        """As the manifest has it."""
        return self.source.uri

    @property
    def span(self) -> tuple[int | None, int | None]:
        """The asked span, microseconds of the source clock."""
        return self.source.start_us, self.source.end_us

    @property
    def identity(self) -> str:
        """Digest of what the item is besides content and span: nothing."""
        return ""

    @property
    def source_id(self) -> str:
        """The id of the content in the data set."""
        return self.sha256[:16]


@dataclass(frozen=True)
class Ordinary:
    """What is ordinary for a speaker; a part is None where no clip tells it."""

    face: tuple[float, ...] | None
    """(52,) ARKit weights of the face at rest, as `pipelines.surface` measures them."""
    voice: tuple[float, ...] | None
    """(7,) medians of `annotate.emotion.voice.FEATURES`, NaN where unknown."""


@dataclass(frozen=True)
class ClipItem:
    """A clip of a source video."""

    clip: Clip
    path: Path
    sha256: str
    info: VideoInfo
    speaker: str | None = None
    """As the manifest names who speaks; decides with which clips a person is shared."""
    uri: str = ""
    """Of the source; one that is remote is fetched again where its file is not here (any more)."""
    person: Known | None = None
    """Shape and focal length where other clips have a say in them."""
    ordinary: Ordinary | None = None
    """Of the speaker, where enough clips tell it."""
    spoken: Transcription | None = None
    """Words and phones on the source clock in and about the clip, where the source has any."""
    transcript: str | None = None
    """Of the whole source, as the manifest gives it."""

    @property
    def unit(self) -> str:
        """The clip id."""
        return self.clip.clip_id

    @property
    def span(self) -> tuple[int, int]:
        """Microseconds of the source clock."""
        return self.clip.span.start_us, self.clip.span.end_us

    @property
    def identity(self) -> str:
        """Digest of the face track."""
        return clip_digest(self.clip)


ItemT = TypeVar("ItemT", SourceItem, ClipItem)


@dataclass(frozen=True)
class Models:
    """The models of a configuration; each is loaded on first use, once in a process."""

    config: Config

    @functools.cached_property
    def head(self) -> HeadModel:
        """The head model."""
        from reconstruct.models.registry import load_model

        return load_model(self.config.fit.head_model)

    @functools.cached_property
    def finder(self) -> FaceFinder:
        """The face finder."""
        from pipelines.segmentation.faces import FaceFinder

        return FaceFinder(self.config.segment)

    @functools.cached_property
    def cuts(self) -> Callable[[], CutFinder]:
        """Makes a finder of shots for each source."""
        from pipelines.segmentation.cuts import cut_finders

        return cut_finders(self.config.segment)

    @functools.cached_property
    def mouths(self) -> MouthReader:
        """The reader of mouths."""
        from pipelines.segmentation.mouth import MouthReader

        return MouthReader()

    @functools.cached_property
    def speaker(self) -> ActiveSpeaker:
        """The judge of who speaks."""
        from annotate.active_speaker import make_judge

        return make_judge(self.config.speaker)

    @functools.cached_property
    def detector(self) -> LandmarkDetector:
        """The landmark detector."""
        from reconstruct.landmarks import make_detector

        return make_detector(self.config.landmarks)

    @functools.cached_property
    def embedding(self) -> Embedding:
        """The detector's landmarks on the head model."""
        from reconstruct.landmarks.embed import embedding_for

        return embedding_for(self.head, self.detector.name, self.config.landmarks)

    @functools.cached_property
    def sync(self) -> SyncEstimator:
        """The estimator of the audio-video offset."""
        from annotate.sync import make_estimator

        return make_estimator(self.config.sync)

    @functools.cached_property
    def aligner(self) -> Aligner:
        """The aligner."""
        from annotate.align import make_aligner

        return make_aligner(self.config.align.backend, self.config.align)


@functools.lru_cache(maxsize=1)
def loaded_models(config: Config) -> Models:
    """The models of this process."""
    return Models(config)


@dataclass(frozen=True)
class View(Generic[ItemT]):
    """What a stage sees of an item: cheap, nothing is loaded."""

    item: ItemT
    config: Config
    values: Mapping[str, Mapping[str, Any]]
    """JSON values of the results so far, by stage."""


@dataclass(frozen=True)
class Job(View[ItemT]):
    """What a stage is given to run."""

    results: Mapping[str, Result]
    """Whole results of the stages that it needs."""
    models: Models
    scratch: Path
    """An empty folder for files; gone after the stage."""


class Stage(ABC, Generic[ItemT]):
    """A named, versioned step: pure given its item, configuration section and models, so it may be run again.

    A stage raises TalksetError where it cannot make its result. `judge` raises one where a result is there but not
    good enough; the fields of the section that only `wanted` and `judge` read are in `decided_later` and are no part
    of the key.
    """

    name: str
    """Also the folder of its results."""
    version: int = 1
    """Raised when the same input gives another result."""
    section: str = ""
    """Its section of the configuration; empty for none."""
    needs: tuple[str, ...] = ()
    """Stages whose results it reads."""
    outputs: tuple[str, ...] = ()
    """Keys of the JSON value that its result has at least, or the result is refused."""
    models: tuple[str, ...] = ()
    """Roles of the models it uses: finder, cuts, speech, speaker, detector, head_model, embedding, aligner, sync,
    style_encoder."""
    decided_later: tuple[str, ...] = ()
    """Fields of the section that cannot change the result."""
    time_limit_s: float | None = 3600.0
    """Wall time that one item may take, times `run.time_scale`; None for no limit."""
    batch: int = 1
    """Items that a worker is given at once, where one is too little work for a message."""
    attempts: int | None = None
    """Most attempts at a result, where that is fewer than its failure would be worth."""

    def resources(self, config: Config) -> Resources:
        """What a worker takes while it runs."""
        del config
        return Resources()

    def environment(self, config: Config) -> Environment | None:
        """Packages of its own, where those of talkset are not what it needs."""
        del config
        return None

    def needed(self, config: Config) -> tuple[str, ...]:
        """Stages whose results it reads with this configuration."""
        del config
        return self.needs

    def wanted(self, view: View[ItemT]) -> bool:
        """Whether the stage applies to the item, given the results so far."""
        del view
        return True

    def settings(self, config: Config) -> str:
        """Digest of what it reads of the configuration."""
        return section_digest(config, self.section, self.decided_later)

    def inputs(self, item: ItemT) -> tuple[str, ...]:
        """What it reads of the item besides content, span and identity."""
        del item
        return ()

    @abstractmethod
    def run(self, job: Job[ItemT]) -> Result:
        """Make the result."""

    def judge(self, view: View[ItemT]) -> None:
        """Raise TalksetError where the result, `view.values[self.name]`, is not good enough."""


def key_of(stage: Stage[ItemT], item: ItemT, config: Config, models: Mapping[str, str], keys: Mapping[str, str]) -> str:
    """Key of the result of a stage on an item; `models` maps roles to hashes or names, `keys` are the earlier keys."""
    return result_key(
        stage=stage.name,
        version=stage.version,
        source_sha256=item.sha256,
        span=item.span,
        section_digest=stage.settings(config),
        models={role: models[role] for role in stage.models},
        inputs=(item.identity, *stage.inputs(item)),
        dependencies=[keys[name] for name in stage.needed(config)],
    )
