"""Networks of SyncNet's signature whose answer is known: pictures are as bright as the sound is loud."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
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
        _int(1, 6)
        + _bytes(8, _text(1, "") + _int(2, 11))
        + _bytes(
            7,
            b"".join(
                [
                    _node("ReduceMean", ["lip"], ["bright"], axes=[1, 3, 4], keepdims=0),
                    _node("Mul", ["bright", "white"], ["lip_embedding"]),
                    _node("Slice", ["aud", "zero", "one", "two"], ["energy"]),
                    _node("AveragePool", ["energy"], ["pooled"], kernel_shape=[1, 4], strides=[1, 4]),
                    _node("ReduceMean", ["pooled"], ["loud"], axes=[1, 2], keepdims=0),
                    _node("Mul", ["loud", "scale"], ["scaled"]),
                    _node("Add", ["scaled", "shift"], ["aud_embedding"]),
                    _text(2, "brightness"),
                    *(_floats(name, value) for name, value in _CONSTANTS.items()),
                    *(_ints(name, value) for name, value in (("zero", 0), ("one", 1), ("two", 2))),
                    _bytes(11, _value("lip", (-1, 3, 5, 224, 224))),
                    _bytes(11, _value("aud", (-1, 1, 13, 20))),
                    _bytes(12, _value("lip_embedding", (-1, 5))),
                    _bytes(12, _value("aud_embedding", (-1, 5))),
                ]
            ),
        )
    )
    return path


def write_means_network(path: Path, weights: NDArray[np.float32]) -> Path:
    """An ONNX graph that multiplies the means of the channels of (1, C, 32, 32) pictures with weights (C, K)."""
    channels, count = weights.shape
    table = _int(1, channels) + _int(1, count) + _int(2, 1) + _text(8, "weights")
    graph = [
        _node("ReduceMean", ["picture"], ["means"], axes=[2, 3], keepdims=0),
        _node("MatMul", ["means", "weights"], ["logits"]),
        _text(2, "means"),
        _bytes(5, table + _bytes(9, weights.astype("<f4").tobytes())),
        _bytes(11, _value("picture", (-1, channels, 32, 32))),
        _bytes(12, _value("logits", (-1, count))),
    ]
    path.write_bytes(_int(1, 6) + _bytes(8, _text(1, "") + _int(2, 11)) + _bytes(7, b"".join(graph)))
    return path


_CONSTANTS = {"white": 1.0 / 255.0, "scale": 1.0 / 12.0, "shift": -1.0}


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _node(kind: str, inputs: list[str], outputs: list[str], **attributes: int | list[int]) -> bytes:
    body = b"".join(_text(1, name) for name in inputs) + b"".join(_text(2, name) for name in outputs) + _text(4, kind)
    for name, value in attributes.items():
        if isinstance(value, list):
            packed = b"".join(_int(8, number) for number in value) + _int(20, 7)
        else:
            packed = _int(3, value) + _int(20, 2)
        body += _bytes(5, _text(1, name) + packed)
    return _bytes(1, body)


def _floats(name: str, value: float) -> bytes:
    return _bytes(5, _int(1, 1) + _int(2, 1) + _text(8, name) + _bytes(9, struct.pack("<f", value)))


def _ints(name: str, value: int) -> bytes:
    return _bytes(5, _int(1, 1) + _int(2, 7) + _text(8, name) + _bytes(9, struct.pack("<q", value)))


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    sizes = b"".join(_bytes(1, _text(2, f"{name}s") if size < 0 else _int(1, size)) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _int(1, 1) + _bytes(2, sizes)))


def flashing(seconds: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """(T,) brightness 0..1 at 25 fps and (N,) noise of that loudness at 16 kHz."""
    rng = np.random.default_rng(seed)
    level = np.convolve(rng.uniform(size=round(25 * seconds) + 8), np.ones(4) / 4, "same")[4:-4]
    level = (level - level.min()) / np.ptp(level)
    times = np.arange(round(16_000 * seconds)) / 16_000
    loud = np.exp(6.0 * np.interp(times, (np.arange(len(level)) + 0.5) / 25, level) - 7.0)
    return level, (rng.normal(size=len(times)) * loud * 0.3).astype(np.float32)
