"""The configuration of a run: frozen dataclasses, one YAML file, dotted overrides, unknown keys refused.

Each section belongs to one stage; the digest of a section is part of the key of that stage's results, so a field that
cannot change a result (verbosity, worker count) must not live in a stage's section.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import UsageError


@dataclass(frozen=True)
class SegmentConfig:
    """From source to clips: shots, dominant face, lengths."""

    shot_threshold: float = 3.0
    """PySceneDetect AdaptiveDetector: ratio of the frame score to its neighbourhood that makes a cut."""
    detect_every_s: float = 0.2
    """Seconds between face detections of the tracking pass."""
    min_face_px: float = 40.0
    """Smallest accepted face box width, source pixels."""
    dominance: float = 1.5
    """The dominant face must have this many times the summed box area of the next one, else the shot is ambiguous."""
    bridge_s: float = 0.6
    """Longest gap without a detection that a track survives."""
    min_clip_s: float = 1.0
    max_clip_s: float = 30.0


@dataclass(frozen=True)
class LandmarkConfig:
    """2D landmark detection on a clip."""

    backend: str = "mediapipe"
    min_detection_confidence: float = 0.5
    min_tracking_confidence: float = 0.5
    crop_scale: float = 2.0
    """Side of the square crop around the tracked face box, in box widths."""
    min_valid_ratio: float = 0.5
    """Clips with fewer valid frames are rejected as face_lost."""


@dataclass(frozen=True)
class FitConfig:
    """Whole-clip head fit on landmarks: a robust least squares in units of the interocular distance."""

    head_model: str = "open-head"
    iterations: int = 15
    """Most Gauss-Newton iterations of each of the two stages."""
    tolerance: float = 5e-3
    """A stage ends when an iteration lowers the objective by less than this fraction."""
    key_frames: int = 12
    """Frames, spread over the clip, on which shape and focal length are found."""
    robust_scale: float = 0.03
    """Geman-McClure scale of the landmark error, as a fraction of the interocular distance."""
    landmark_weight: float = 2e4
    """Weight of the mean squared landmark error against the priors."""
    embedding_floor_m: float = 0.002
    """Landmarks are trusted by 1 / (spread^2 + floor^2), where spread is how firmly a landmark sits on the model."""
    focal_px: float | None = None
    """Known focal length in pixels; estimated per clip when not given."""
    focal_weight: float = 0.2
    """Pull of the log focal length to that of an ordinary camera (40 degrees across the longer side)."""
    shape_weight: float = 0.02
    """Pull of identity coefficients (unit variance) to the mean head."""
    expression_weight: float = 0.6
    """Pull of expression coefficients and jaw to rest."""
    temporal_weight: float = 0.5
    """Second differences over time."""
    vergence_weight: float = 5.0
    """Pull of both eyes to one direction."""
    max_nme: float = 0.05
    """Clips with a larger mean NME are rejected as poor_fit."""


@dataclass(frozen=True)
class AlignConfig:
    """Words and phones from a known transcript."""

    enabled: bool = True
    backend: str = "pocketsphinx"


@dataclass(frozen=True)
class MediaConfig:
    """The clip's own video and sound in the data set."""

    enabled: bool = True
    crf: int = 18
    """x264 constant rate factor; lower is larger and better."""


@dataclass(frozen=True)
class OverlayConfig:
    """Mesh over video, for review."""

    enabled: bool = True
    height: int = 480
    """Height of the picture in pixels."""
    crf: int = 23


@dataclass(frozen=True)
class ShardConfig:
    """Parquet layout."""

    clips_per_row_group: int = 8
    max_shard_mb: int = 256
    zstd_level: int = 3
    figures: bool = True
    """Pictures in the data card: about a second."""


@dataclass(frozen=True)
class RunConfig:
    """How to run; never part of a result's key."""

    engine: str = "ray"
    """`ray` or `local` (in this process)."""
    workers: int | None = None
    """Parallel workers; None: one per core."""
    address: str | None = None
    """Address of a running Ray cluster; None starts one on this machine."""
    error_budget: float = 0.0
    """Fraction of sources that may fail before the exit status becomes 1."""


@dataclass(frozen=True)
class Config:
    """A whole run."""

    name: str = "talkset"
    version: str = "1.0.0"
    licence: str = ""
    """Licence of the data set as a whole, for its card."""
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    landmarks: LandmarkConfig = field(default_factory=LandmarkConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    media: MediaConfig = field(default_factory=MediaConfig)
    overlay: OverlayConfig = field(default_factory=OverlayConfig)
    shards: ShardConfig = field(default_factory=ShardConfig)
    run: RunConfig = field(default_factory=RunConfig)


def load_config(path: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file over the defaults, then apply `section.key=value` overrides (values are YAML).

    Raises UsageError that names an unknown key with a suggestion, or a value of the wrong type.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"cannot read the configuration {path}: {error.strerror}", "Check the path") from error
        except yaml.YAMLError as error:
            raise UsageError(f"{path} is not valid YAML: {error}", "Mend the line it names") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise UsageError(
                f"{path} must hold a mapping, got {type(loaded).__name__}", "Write `section: {key: value}`"
            )
        tree = loaded or {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"override {override!r} has no '='", "Write --set section.key=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"override {override!r}: the value is not YAML", "Quote the value") from error
        node = tree
        *parents, leaf = key.strip().split(".")
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise UsageError(f"override {override!r}: {parent} is not a section", "See `talkset run --show-config`")
            node = child
        node[leaf] = value
    return typing.cast("Config", _build(Config, tree, ""))


def _build(kind: type[Any], tree: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, n=1)
            known = (
                f"Did you mean {prefix}{close[0]}?" if close else f"Known keys: {', '.join(prefix + k for k in hints)}"
            )
            raise UsageError(f"unknown configuration key {name!r}", known)
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise UsageError(f"configuration key {name!r} is a section, got {value!r}", f"Write {name}.field=value")
            values[key] = _build(typing.cast("type[Any]", hint), value, f"{name}.")
        else:
            values[key] = _coerce(value, hint, name)
    return kind(**values)


def _coerce(value: Any, hint: Any, name: str) -> Any:
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in allowed:
        return None
    if isinstance(value, bool):
        if bool in allowed:
            return value
    elif isinstance(value, int) and float in allowed:
        return float(value)
    elif isinstance(value, str) and float in allowed:
        try:  # YAML 1.1 reads 1e-3 as text
            return float(value)
        except ValueError:
            pass
    elif type(value) in allowed:
        return value
    expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in allowed)
    raise UsageError(f"configuration key {name!r} must be {expected}, got {value!r}", f"Set {name} to a {expected}")


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration (or a section) as plain nested dictionaries, ready for YAML or JSON."""
    return dataclasses.asdict(config)


def dump_yaml(config: Config) -> str:
    """The resolved configuration as YAML text."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def digest(section: Any) -> str:
    """16 hex digits that change when any value of the section changes."""
    text = json.dumps(to_dict(section), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
