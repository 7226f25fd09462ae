"""The fingerprint of a clip as text: codes of its sound and the motion of its face, by which copies are found."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import TalksetError

SOUND_HOP_US: Final = 20_000
MOTION_HOP_US: Final = 40_000
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<BII")


@dataclass(frozen=True)
class Fingerprint:
    """What a clip sounds and moves like; both parts may be empty."""

    sound: NDArray[np.uint32]
    """(M,) a code every 20 ms from the clip's start (`annotate.fingerprint`); 0 where it is too quiet."""
    motion: NDArray[np.int8]
    """(N, 2) opening of the lips and nod every 40 ms (`reconstruct.fingerprint`); -128 where no face was seen."""

    def text(self) -> str:
        """Base64 of version, lengths, codes and motion, little-endian."""
        head = _HEADER.pack(_VERSION, len(self.sound), len(self.motion))
        body = self.sound.astype("<u4").tobytes() + np.ascontiguousarray(self.motion, np.int8).tobytes()
        return base64.b64encode(head + body).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> Fingerprint:
        """What `text` wrote. Raises TalksetError corrupt_data for other text."""
        try:
            data = base64.b64decode(text, validate=True)
            version, codes, hops = _HEADER.unpack_from(data)
            if version != _VERSION or len(data) != _HEADER.size + 4 * codes + 2 * hops:
                raise ValueError(f"version {version}, {len(data)} bytes for {codes} codes and {hops} hops")
        except (ValueError, binascii.Error, struct.error) as error:
            message = f"{text[:40]!r} is no fingerprint ({error})"
            raise TalksetError("corrupt_data", message, "Make the data set again") from error
        sound = np.frombuffer(data, "<u4", codes, _HEADER.size).astype(np.uint32)
        motion = np.frombuffer(data, np.int8, 2 * hops, _HEADER.size + 4 * codes).reshape(hops, 2)
        return cls(sound, motion)
