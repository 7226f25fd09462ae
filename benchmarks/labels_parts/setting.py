"""What the parts of labels.py share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reconstruction_parts.limits import Limits

from reconstruct.models.head_model import HeadModel


@dataclass(frozen=True)
class Setting:
    """Claims, the head model, and where what was detected is kept."""

    limits: Limits
    model: HeadModel
    cache: Path
