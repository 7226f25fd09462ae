"""Messages between a worker and its child process: small things as pickles, arrays through shared memory.

A message is a header, the lengths of its buffers, and a pickle. Buffers of arrays (pickle protocol 5, PEP 574) lie in
an unnamed memory file (memfd_create(2)), whose descriptor travels with the first message that needs it. The files are
used again and again, and the receiver copies out of them: fresh pages for every frame would cost four times the copies.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np

CALL, STREAM, STOP = b"C", b"S", b"X"
"""From the worker: call a function, take what a generator yields, end the generator that is running."""
MORE = b"+"
"""From the worker: one batch was taken, so that another may be sent."""
VALUE, BATCH, ERROR = b"V", b"B", b"E"
"""From the child: the result (also of a generator that ended), yielded items, an exception."""
WINDOW: Final = 2
"""Batches that the child may be ahead of the worker; each has a slot of its own."""
RESULT_SLOT: Final = WINDOW

_HEADER: Final = struct.Struct("!cIQQ")
_LENGTH: Final = struct.Struct("!Q")
_SMALL: Final = 1 << 15
"""Arrays of fewer bytes in all go into the pickle."""
_ALIGNMENT: Final = 64


class ClosedError(Exception):
    """The other side is gone."""


class Sender:
    """Sends messages. A slot is a memory file; what it carried must have been received before it carries more."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._slots: dict[int, mmap.mmap] = {}

    def send(self, kind: bytes, value: Any, slot: int = 0) -> None:
        """Send one message.

        Raises what pickle raises before anything is sent, and ClosedError when the other side is gone.
        """
        try:
            self._send(kind, value, slot)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ClosedError("the connection was closed") from error

    def _send(self, kind: bytes, value: Any, slot: int) -> None:
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        views = [buffer.raw() for buffer in buffers]
        if sum(view.nbytes for view in views) < _SMALL:
            data = pickle.dumps(value, protocol=5) if views else data
            self._connection.sendall(_HEADER.pack(kind, 0, 0, len(data)) + data)
            return
        places, length = _places([view.nbytes for view in views])
        descriptor = self._grow(slot, length)
        memory = self._slots[slot]
        for place, view in zip(places, views, strict=True):
            memory[place : place + view.nbytes] = view
        header = _HEADER.pack(kind, slot, len(views), len(data))
        if descriptor is None:
            self._connection.sendall(header)
        else:
            socket.send_fds(self._connection, [header], [descriptor])
            os.close(descriptor)
        self._connection.sendall(b"".join(_LENGTH.pack(view.nbytes) for view in views) + data)

    def _grow(self, slot: int, length: int) -> int | None:
        """The descriptor of a new memory file where the slot has none that is large enough."""
        if slot in self._slots and len(self._slots[slot]) >= length:
            return None
        descriptor = os.memfd_create("talkset")
        os.ftruncate(descriptor, length)
        self._slots[slot] = mmap.mmap(descriptor, length)
        return descriptor


class Receiver:
    """Receives the messages of a `Sender`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._slots: dict[int, mmap.mmap] = {}

    def receive(self, wait: Callable[[], None] = lambda: None) -> tuple[bytes, Any]:
        """Take one message: its kind and value, with arrays of its own; `wait` is called before reads and may raise.

        Raises ClosedError when the other side is gone.
        """
        wait()
        try:
            header, descriptors, _, _ = socket.recv_fds(self._connection, _HEADER.size, 1)
        except ConnectionResetError as error:
            raise ClosedError("the connection was reset") from error
        if not header:
            raise ClosedError("the connection was closed")
        header += self._read(_HEADER.size - len(header), wait)
        kind, slot, count, size = _HEADER.unpack(header)
        for descriptor in descriptors:
            self._slots[slot] = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
            os.close(descriptor)
        table = self._read(count * _LENGTH.size, wait)
        lengths = [length for (length,) in _LENGTH.iter_unpack(table)]
        data = self._read(size, wait)
        if not count:
            return kind, pickle.loads(data)
        memory = memoryview(self._slots[slot])
        places, _ = _places(lengths)
        blocks = [np.array(memory[at : at + length], np.uint8) for at, length in zip(places, lengths, strict=True)]
        return kind, pickle.loads(data, buffers=blocks)

    def _read(self, size: int, wait: Callable[[], None]) -> bytes:
        parts = []
        while size:
            wait()
            part = self._connection.recv(min(size, 1 << 20))
            if not part:
                raise ClosedError("the connection was closed in the middle of a message")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _places(lengths: list[int]) -> tuple[list[int], int]:
    """Where each buffer starts, and the length of all."""
    places, end = [], 0
    for length in lengths:
        places.append(end)
        end += -(-length // _ALIGNMENT) * _ALIGNMENT
    return places, end
