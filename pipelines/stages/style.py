"""The manner of a clip: descriptors and embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.results import Result, pack, unpack
from pipelines.stage import ClipItem, Job, Stage, View
from pipelines.stages.clip_input import performance, performance_needs, spoken_inputs
from schemas.config import Config
from schemas.labels import DESCRIPTORS
from schemas.types import Style as StyleRecord


class Style(Stage[ClipItem]):
    """Clip: descriptors of its manner, and the embedding of an encoder."""

    name = "style"
    version = 2
    section = "style"
    models = ("head_model", "detector", "embedding", "speech", "style_encoder")
    outputs = ("descriptors", "record")
    decided_later = ("enabled", "encoder")  # the encoder's name carries the file's hash

    def needed(self, config: Config) -> tuple[str, ...]:
        """Face, hands, and how far the sound is shifted."""
        return performance_needs(config)

    def inputs(self, item: ClipItem) -> tuple[str, ...]:
        """The phones, by which syllables are counted."""
        return spoken_inputs(item)

    def wanted(self, view: View[ClipItem]) -> bool:
        """Unless switched off."""
        return view.config.style.enabled

    def run(self, job: Job[ClipItem]) -> Result:
        """Descriptors, None where there is nothing to measure, and a `Style`. Raises decode_error."""
        from annotate.style import make_encoder
        from annotate.style.descriptors import describe
        from annotate.style.voice import listen

        clip = performance(job, surface=True)
        voice = None if clip.samples is None else listen(clip.samples)
        found = make_encoder(job.config.style.encoder).embed(clip, voice)
        values = {"descriptors": describe(clip, voice)}
        if found is None:
            return Result({**values, "record": None})
        packed = pack(found)
        return Result({**values, "record": dict(packed.value)}, packed.arrays)


def style_of(results: Mapping[str, Result]) -> StyleRecord | None:
    """The embedding that the stage found, if any."""
    result = results.get(Style.name)
    if result is None or result.value["record"] is None:
        return None
    return unpack(StyleRecord, Result(result.value["record"], result.arrays))


def style_columns(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The index columns of a clip; `values` are by stage. Empty without the stage."""
    found = values.get(Style.name, {}).get("descriptors", {})
    return {each.column: found.get(each.name) for each in DESCRIPTORS} if found else {}
