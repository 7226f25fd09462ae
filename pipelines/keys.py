"""The key of a result: everything that can change it, and nothing else."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.config import Config
from schemas.types import Clip, Source

if TYPE_CHECKING:
    from reconstruct.fitting.problem import Known


def result_key(
    *,
    stage: str,
    version: int,
    source_sha256: str,
    span: Sequence[int | None],
    section_digest: str,
    models: Mapping[str, str],
    inputs: Sequence[str],
    dependencies: Sequence[str],
) -> str:
    """64 hex digits that change when any of the values changes.

    `models` maps a role (head_model, detector, aligner) to a content hash or a versioned name; `inputs` are what the
    stage reads besides the video (a transcript, a face track); `dependencies` are the keys of the stages it reads.
    """
    return digest_of(
        {
            "stage": stage,
            "version": version,
            "source": source_sha256,
            "span": list(span),
            "config": section_digest,
            "models": dict(models),
            "inputs": list(inputs),
            "dependencies": list(dependencies),
        }
    )


def section_digest(config: Config, section: str, decided_later: Sequence[str] = ()) -> str:
    """Digest of a section of the configuration without the fields that only judge a finished result."""
    return _digest_without(getattr(config, section), tuple(decided_later)) if section else ""


@functools.lru_cache(maxsize=256)
def _digest_without(section: Any, names: tuple[str, ...]) -> str:
    """Remembered, because each result asks for it: a third of a run that has nothing to do."""
    values = dataclasses.asdict(section)
    for name in names:
        del values[name]
    return digest_of(values)


def output_digest(config: Config) -> str:
    """16 hex digits over everything that can change the data set: all sections but `run`."""
    values = dataclasses.asdict(config)
    del values["run"]
    return digest_of(values)[:16]


def digest_of(value: Any) -> str:
    """SHA-256 of a value's canonical JSON text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def clip_digest(clip: Clip) -> str:
    """Digest of what a clip is made of: its span and the face track in it."""
    result = hashlib.sha256(f"{clip.span.start_us} {clip.span.end_us} {len(clip.track.pts_us)}\n".encode())
    result.update(np.ascontiguousarray(clip.track.pts_us, np.int64).tobytes())
    result.update(np.ascontiguousarray(clip.track.box_xywh, np.float32).tobytes())
    return result.hexdigest()


def person_digest(person: Known) -> str:
    """Digest of a person that clips share: shape and focal length, to the last bit."""
    shape = np.ascontiguousarray([] if person.shape is None else person.shape, np.float32)
    focal = np.array([] if person.focal_px is None else [person.focal_px], np.float64)
    result = hashlib.sha256(f"{len(shape)} {len(focal)}\n".encode())
    result.update(shape.tobytes())
    result.update(focal.tobytes())
    return result.hexdigest()


def source_unit(source: Source, occurrence: int = 0) -> str:
    """12 hex digits that name a row of the manifest by what it asks for; `occurrence` counts equal rows before it."""
    return digest_of([source.uri, source.start_us, source.end_us, occurrence])[:12]
