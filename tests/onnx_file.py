"""ONNX graphs in protobuf's wire format, so that tests can write them without the package."""

from __future__ import annotations

import struct


def varint(value: int) -> bytes:
    """An integer of any length."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def integer(field: int, value: int) -> bytes:
    """A field that is an integer."""
    return varint(field << 3) + varint(value)


def nested(field: int, value: bytes) -> bytes:
    """A field that is a message or bytes."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def text(field: int, value: str) -> bytes:
    """A field that is text."""
    return nested(field, value.encode())


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: int | list[int]) -> bytes:
    """A node of a graph."""
    body = b"".join(text(1, name) for name in inputs) + b"".join(text(2, name) for name in outputs) + text(4, kind)
    for name, given in attributes.items():
        if isinstance(given, list):
            packed = b"".join(integer(8, number) for number in given) + integer(20, 7)
        else:
            packed = integer(3, given) + integer(20, 2)
        body += nested(5, text(1, name) + packed)
    return nested(1, body)


def real(name: str, constant: float) -> bytes:
    """An initializer: one float32."""
    return nested(5, integer(1, 1) + integer(2, 1) + text(8, name) + nested(9, struct.pack("<f", constant)))


def whole(name: str, constant: int) -> bytes:
    """An initializer: one int64."""
    return nested(5, integer(1, 1) + integer(2, 7) + text(8, name) + nested(9, struct.pack("<q", constant)))


def value(name: str, shape: tuple[int, ...]) -> bytes:
    """Name, float32 and shape of an input or output; a negative size is one of its own name."""
    sizes = b"".join(nested(1, text(2, f"{name}s") if size < 0 else integer(1, size)) for size in shape)
    return text(1, name) + nested(2, nested(1, integer(1, 1) + nested(2, sizes)))
