"""What the models of a configuration are, without loading them: content hashes and versioned names for the keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from schemas.config import Config
from schemas.errors import TalksetError, UsageError

if TYPE_CHECKING:
    from reconstruct.models.registry import Entry

LIBRARIES: Final = (
    *("anny", "av", "gruut-lang-en", "inflect", "mediapipe", "numpy", "onnxruntime", "opencv-python", "pocketsphinx"),
    *("pyarrow", "python-crfsuite", "scipy", "silero-vad", "torch"),
)
MODELS_FOLDER: Final = "models"
"""Where a data set holds the models whose licences let them travel with it."""
LICENCES: Final = {
    "mediapipe": "Apache-2.0",
    "face-alignment": "BSD-3-Clause",
    "pocketsphinx": "BSD-2-Clause",
    "whisperx": "BSD-2-Clause",
}


def model_digests(config: Config) -> dict[str, str]:
    """Role -> content hash or versioned name, for the head model, finder, cuts, speech, speaker, detector, embedding,
    aligner, sync, emotion and style encoder.

    Builds the open head when it is not built yet. Raises UsageError for an unknown name, TalksetError corrupt_data or
    missing_model for a model file that cannot be read.
    """
    from annotate.align import aligner_version
    from annotate.emotion.make import judges_version
    from annotate.style import encoder_name
    from annotate.sync import make_estimator
    from reconstruct import embedding
    from reconstruct.landmarks import make_detector
    from reconstruct.models.user_models import official_digest

    aligner = aligner_version(config.align)  # raises with a suggestion
    detector = make_detector(config.landmarks).name
    given = official_digest(config.fit.head_model, detector)
    return {
        "head_model": _head_model_sha256(config.fit.head_model),
        **source_digests(config),
        "detector": detector,
        "embedding": f"v{embedding.VERSION}" + (f"-{given}" if given else ""),
        "aligner": aligner,
        "sync": make_estimator(config.sync).name if config.sync.enabled else "",
        "emotion": judges_version(config.emotion) if config.emotion.enabled else "",
        "style_encoder": encoder_name(config.style.encoder) if config.style.enabled else "",
        **body_digests(config),
    }


def body_digests(config: Config) -> dict[str, str]:
    """The same for body and hands; empty where they are not asked for."""
    if not config.reconstruct.body:
        return {}
    from reconstruct.body import calibrate
    from reconstruct.body.detect import check_networks, detector_name
    from reconstruct.models.registry import build_open_body, entries

    check_networks(config.reconstruct)
    name = config.reconstruct.body_model
    known = {entry.name: entry for entry in entries() if entry.kind == "body"}
    if name not in known:
        raise UsageError(f"unknown body model reconstruct.body_model={name!r}", f"Known: {', '.join(known)}")
    path = known[name].path if known[name].built else build_open_body()
    return {
        "body_model": _recorded_sha256(path),
        "body_detector": detector_name(config.reconstruct),
        "body_points": f"v{calibrate.VERSION}",
    }


def source_digests(config: Config) -> dict[str, str]:
    """The same for the stages that turn a source into clips: finder, cuts, speech and speaker."""
    from annotate.active_speaker import judge_version
    from pipelines.segmentation.cuts import cut_version

    return {
        "finder": f"mediapipe-{version('mediapipe')}",
        "cuts": cut_version(config.segment),
        "speech": f"silero-vad-{version('silero-vad')}+pocketsphinx-{version('pocketsphinx')}",
        "speaker": judge_version(config.speaker),
    }


def describe_models(config: Config, digests: Mapping[str, str]) -> list[dict[str, str]]:
    """Name, hash and licence of every model, for the data set's card."""
    from reconstruct.models.registry import entries

    licences = {entry.name: entry.licence for entry in entries()}
    name = config.fit.head_model
    head = {"name": name, "sha256": digests["head_model"], "licence": licences.get(name, "")}
    if (entry := _travelling(name)) is not None:
        head["file"] = f"{MODELS_FOLDER}/{entry.path.name}"
    described = [head]
    if config.reconstruct.body:
        name = config.reconstruct.body_model
        body = {"name": name, "sha256": digests["body_model"], "licence": licences.get(name, "")}
        if (entry := _travelling(name)) is not None:
            body["file"] = f"{MODELS_FOLDER}/{entry.path.name}"
        described.append(body)
    for role in ("detector", "aligner"):
        name = digests[role]
        backend = next((known for known in LICENCES if name.startswith(f"{known}-")), name.partition("-")[0])
        licence, number = LICENCES.get(backend, ""), name[len(backend) + 1 :]
        described.append({"name": f"{backend} {number}", "licence": licence, "sha256": ""})
    return described


def bundled_models(config: Config, digests: Mapping[str, str]) -> dict[str, Path]:
    """Name in the data set's `models/` -> file of this machine, for head and body model and the landmarks on the head.

    With them the rows mean the same on every machine, whatever is installed there. Licensed models never travel.
    """
    from reconstruct.embedding import embedding_path

    body = _travelling(config.reconstruct.body_model) if config.reconstruct.body else None
    bundled = {} if body is None else {body.path.name: body.path}
    entry = _travelling(config.fit.head_model)
    if entry is None:
        return bundled
    detector = digests["detector"]
    embedding = embedding_path(digests["head_model"], detector)
    if not embedding.is_file():  # it is there after a fit, unless the cache was emptied since
        from reconstruct.landmarks.embed import embedding_for
        from reconstruct.models.registry import load_model

        embedding_for(load_model(entry.name), detector, config.landmarks)
    return {entry.path.name: entry.path, f"{entry.path.stem}.{detector}.embedding.npz": embedding, **bundled}


def _travelling(name: str) -> Entry | None:
    """The entry of a model that may be part of a data set."""
    from reconstruct.models.registry import entries

    return next((entry for entry in entries() if entry.name == name and entry.travels), None)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that the values depend on, and of talkset."""
    found = {name: version(name) for name in LIBRARIES}
    try:
        found["talkset"] = version("talkset")
    except PackageNotFoundError:
        found["talkset"] = "source checkout"
    return found


def _head_model_sha256(name: str) -> str:
    from reconstruct.models.registry import build_open_head, entries

    entry = {entry.name: entry for entry in entries() if entry.kind == "head"}.get(name)
    if entry is None:
        known = ", ".join(entry.name for entry in entries() if entry.kind == "head")
        raise UsageError(f"unknown head model fit.head_model={name!r}", f"Known: {known}")
    path = entry.path if entry.built else build_open_head()
    return _recorded_sha256(path)


def _recorded_sha256(path: Path) -> str:
    """The content hash that a model file carries; loading the model checks it."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return str(json.loads(str(stored["meta"]))["sha256"])
    except (OSError, ValueError, KeyError) as error:
        raise TalksetError(
            "corrupt_data", f"the model file {path} is not readable ({error})", "Build it again"
        ) from error
