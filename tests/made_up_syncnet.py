"""Networks of SyncNet's signature whose answer is known: pictures are as bright as the sound is loud."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from onnx_file import integer, nested, node, real, text, value, whole
from torch import Tensor, nn


class BrightnessNetwork(nn.Module):
    """Brightness of each of five pictures; loudness of each fifth of the cepstra."""

    @torch.jit.export
    def forward_lip(self, lip: Tensor) -> Tensor:
        return lip.mean(dim=(1, 3, 4)) / 255.0

    @torch.jit.export
    def forward_aud(self, aud: Tensor) -> Tensor:
        return aud[:, 0, 0].reshape(-1, 5, 4).mean(dim=2) / 12.0 - 1.0

    def forward(self, lip: Tensor) -> Tensor:
        return self.forward_lip(lip)


def write_torchscript(path: Path) -> Path:
    """As a TorchScript archive."""
    torch.jit.script(BrightnessNetwork().eval()).save(str(path))  # type: ignore[no-untyped-call]
    return path


def write_onnx(path: Path) -> Path:
    """As an ONNX graph, opset 11, in protobuf's wire format."""
    path.write_bytes(
        integer(1, 6)
        + nested(8, text(1, "") + integer(2, 11))
        + nested(
            7,
            b"".join(
                [
                    node("ReduceMean", ["lip"], ["bright"], axes=[1, 3, 4], keepdims=0),
                    node("Mul", ["bright", "white"], ["lip_embedding"]),
                    node("Slice", ["aud", "zero", "one", "two"], ["energy"]),
                    node("AveragePool", ["energy"], ["pooled"], kernel_shape=[1, 4], strides=[1, 4]),
                    node("ReduceMean", ["pooled"], ["loud"], axes=[1, 2], keepdims=0),
                    node("Mul", ["loud", "scale"], ["scaled"]),
                    node("Add", ["scaled", "shift"], ["aud_embedding"]),
                    text(2, "brightness"),
                    *(real(name, constant) for name, constant in _CONSTANTS.items()),
                    *(whole(name, constant) for name, constant in (("zero", 0), ("one", 1), ("two", 2))),
                    nested(11, value("lip", (-1, 3, 5, 224, 224))),
                    nested(11, value("aud", (-1, 1, 13, 20))),
                    nested(12, value("lip_embedding", (-1, 5))),
                    nested(12, value("aud_embedding", (-1, 5))),
                ]
            ),
        )
    )
    return path


def write_means_network(path: Path, weights: NDArray[np.float32]) -> Path:
    """An ONNX graph that multiplies the means of the channels of (1, C, 32, 32) pictures with weights (C, K)."""
    channels, count = weights.shape
    table = integer(1, channels) + integer(1, count) + integer(2, 1) + text(8, "weights")
    graph = [
        node("ReduceMean", ["picture"], ["means"], axes=[2, 3], keepdims=0),
        node("MatMul", ["means", "weights"], ["logits"]),
        text(2, "means"),
        nested(5, table + nested(9, weights.astype("<f4").tobytes())),
        nested(11, value("picture", (-1, channels, 32, 32))),
        nested(12, value("logits", (-1, count))),
    ]
    path.write_bytes(integer(1, 6) + nested(8, text(1, "") + integer(2, 11)) + nested(7, b"".join(graph)))
    return path


_CONSTANTS = {"white": 1.0 / 255.0, "scale": 1.0 / 12.0, "shift": -1.0}


def flashing(seconds: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """(T,) brightness 0..1 at 25 fps and (N,) noise of that loudness at 16 kHz."""
    rng = np.random.default_rng(seed)
    level = np.convolve(rng.uniform(size=round(25 * seconds) + 8), np.ones(4) / 4, "same")[4:-4]
    level = (level - level.min()) / np.ptp(level)
    times = np.arange(round(16_000 * seconds)) / 16_000
    loud = np.exp(6.0 * np.interp(times, (np.arange(len(level)) + 0.5) / 25, level) - 7.0)
    return level, (rng.normal(size=len(times)) * loud * 0.3).astype(np.float32)
