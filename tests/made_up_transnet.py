"""A network of TransNetV2's signature as an ONNX graph: it is certain of pictures that are white."""

from __future__ import annotations

from pathlib import Path

from onnx_file import integer, nested, node, real, text, value


def write_flashes(path: Path) -> Path:
    """Logits of (1, 100, 27, 48, 3) float32 pictures: their mean less 128; opset 11."""
    graph = [
        node("ReduceMean", ["frames"], ["mean"], axes=[2, 3, 4], keepdims=0),
        node("Add", ["mean", "shift"], ["logits"]),
        text(2, "flashes"),
        real("shift", -128.0),
        nested(11, value("frames", (1, 100, 27, 48, 3))),
        nested(12, value("logits", (1, 100))),
    ]
    path.write_bytes(integer(1, 6) + nested(8, text(1, "") + integer(2, 11)) + nested(7, b"".join(graph)))
    return path
