"""How far sound and lips are apart: estimators of the offset, chosen by name."""

from __future__ import annotations

from annotate.sync.base import Face, SyncEstimate, SyncEstimator
from schemas.config import SyncConfig
from schemas.errors import UsageError

__all__ = ["BACKENDS", "Face", "SyncEstimate", "SyncEstimator", "make_estimator"]

BACKENDS = ("lips", "syncnet")


def make_estimator(config: SyncConfig) -> SyncEstimator:
    """The estimator that `sync.backend` names.

    Raises UsageError for an unknown name, or for `syncnet` without weights; missing_model or corrupt_data where its
    weights cannot be read.
    """
    if config.backend == "lips":
        from annotate.sync.lips import LipSync

        return LipSync(config.range_ms)
    if config.backend == "syncnet":
        from annotate.sync.syncnet import SyncNet

        if config.weights_path is None:
            raise UsageError(
                "sync.backend=syncnet needs weights", "Set sync.weights_path to a TorchScript or ONNX file"
            )
        return SyncNet(config.weights_path, config.range_ms)
    raise UsageError(f"unknown sync backend {config.backend!r}", f"Known: {', '.join(BACKENDS)}")
