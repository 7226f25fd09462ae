"""Values of the configuration that no stage could work with, found before anything is done."""

from __future__ import annotations

from typing import Any, Final

from schemas.config import Config
from schemas.errors import UsageError

SHAPE_FROM: Final = ("clip", "speaker")
FOCAL_FROM: Final = ("clip", "source")
ACTIONS: Final = ("group", "reject")


def check_config(config: Config) -> None:
    """Raise UsageError that names the first value outside what is allowed."""
    segment, shards = config.segment, config.shards
    rules: list[tuple[str, Any, bool, str]] = [
        ("segment.min_clip_s", segment.min_clip_s, segment.min_clip_s > 0, "more than 0"),
        ("segment.max_clip_s", segment.max_clip_s, segment.max_clip_s >= segment.min_clip_s, "min_clip_s or more"),
        ("segment.detect_every_s", segment.detect_every_s, segment.detect_every_s > 0, "more than 0"),
        ("segment.shot_threshold", segment.shot_threshold, segment.shot_threshold > 0, "more than 0"),
        ("segment.bridge_s", segment.bridge_s, segment.bridge_s >= 0, "0 or more"),
        ("landmarks.crop_scale", config.landmarks.crop_scale, config.landmarks.crop_scale > 0, "more than 0"),
        *(
            (f"landmarks.{name}", value, 0 <= value <= 1, "0 to 1")
            for name in ("min_detection_confidence", "min_tracking_confidence", "min_valid_ratio")
            for value in (getattr(config.landmarks, name),)
        ),
        ("fit.iterations", config.fit.iterations, config.fit.iterations >= 1, "1 or more"),
        ("fit.key_frames", config.fit.key_frames, config.fit.key_frames >= 1, "1 or more"),
        ("fit.hold_out", config.fit.hold_out, config.fit.hold_out >= 0, "0 or more"),
        ("fit.max_nme", config.fit.max_nme, config.fit.max_nme > 0, "more than 0"),
        ("fit.focal_px", config.fit.focal_px, config.fit.focal_px is None or config.fit.focal_px > 0, "more than 0"),
        *(
            (f"reconstruct.{name}", value, 0 <= value <= 1, "0 to 1")
            for name in ("min_visibility", "min_hand_ratio", "max_penetration")
            for value in (getattr(config.reconstruct, name),)
        ),
        *(
            (f"reconstruct.{name}", value, value > 0, "more than 0")
            for name in ("robust_scale", "smoothness", "max_residual", "max_implausible", "max_jitter")
            for value in (getattr(config.reconstruct, name),)
        ),
        *(
            (f"reconstruct.{name}", value, value >= 1, "1 or more")
            for name in ("num_betas", "key_frames", "iterations")
            for value in (getattr(config.reconstruct, name),)
        ),
        ("media.crf", config.media.crf, 0 <= config.media.crf <= 51, "0 to 51"),
        ("overlay.crf", config.overlay.crf, 0 <= config.overlay.crf <= 51, "0 to 51"),
        ("overlay.height", config.overlay.height, 16 <= config.overlay.height <= 4320, "16 to 4320"),
        (
            "shards.clips_per_row_group",
            shards.clips_per_row_group,
            1 <= shards.clips_per_row_group <= 4096,
            "1 to 4096",
        ),
        ("shards.max_shard_mb", shards.max_shard_mb, shards.max_shard_mb >= 1, "1 or more"),
        ("shards.zstd_level", shards.zstd_level, 1 <= shards.zstd_level <= 22, "1 to 22"),
        ("run.retry.attempts", config.run.retry.attempts, config.run.retry.attempts >= 1, "1 or more"),
        ("run.retry.wait_s", config.run.retry.wait_s, config.run.retry.wait_s >= 0, "0 or more"),
        ("run.retry.max_wait_s", config.run.retry.max_wait_s, config.run.retry.max_wait_s >= 0, "0 or more"),
        ("run.error_budget", config.run.error_budget, 0 <= config.run.error_budget <= 1, "0 to 1"),
    ]
    sync, split, copies = config.sync, config.split, config.duplicates
    whole = split.train + split.val + split.test
    rules += [
        ("sync.range_ms", sync.range_ms, 40 <= sync.range_ms <= 2000, "40 to 2000"),
        ("duplicates.action", copies.action, copies.action in ACTIONS, " or ".join(ACTIONS)),
        *(
            (f"split.{name}", share, 0 <= share <= 1 and abs(whole - 1) < 1e-6, "shares that sum to 1")
            for name, share in vars(split).items()
        ),
    ]
    for name, choices in (("shape_from", SHAPE_FROM), ("focal_from", FOCAL_FROM)):
        value = getattr(config.fit, name)
        rules.append((f"fit.{name}", value, value in choices, " or ".join(choices)))
    for name, value, good, allowed in rules:
        if not good:
            raise UsageError(f"{name}={value} is not allowed", f"Set it to {allowed}")
