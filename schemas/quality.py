"""The measures of picture and sound that every clip has: name, unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Measure:
    """One measure; its columns are `name`, the mean over the clip, and `name_worst`."""

    name: str
    unit: str
    more_is_better: bool
    meaning: str
    low: float | None = 0.0
    high: float | None = None

    @property
    def limits(self) -> tuple[str, str]:
        """Fields of the section `quality` that bound mean and worst value."""
        side = "min" if self.more_is_better else "max"
        return f"{side}_{self.name}", f"{side}_{self.name}_worst"

    @property
    def worst(self) -> str:
        """Column of the worst value."""
        return f"{self.name}_worst"


MEASURES: Final = (
    Measure("face_px", "px", True, "side of the square that is as large as the box of the face's landmarks"),
    Measure("sharpness", "1", True, "variance of the Laplacian of the face at one size over the variance of its luma"),
    Measure("brightness", "1", True, "mean luma of the middle of the face, 1 is white", high=1.0),
    Measure("burnt", "1", False, "share of the middle of the face that is white", high=1.0),
    Measure("yaw_deg", "deg", False, "angle by which the head is turned aside", high=180.0),
    Measure("pitch_deg", "deg", False, "angle by which the head is turned up or down", high=180.0),
    Measure("roll_deg", "deg", False, "angle by which the head leans", high=180.0),
    Measure("occlusion", "1", False, "share of the face that looks unlike the clip's median face: a hint", high=1.0),
    Measure("blockiness", "1", False, "step of luma at the borders of 8 x 8 blocks over the step elsewhere"),
    Measure("bits_per_pixel", "1", True, "coded bits of the video per displayed pixel and frame"),
    Measure("snr_db", "dB", True, "power of the speech over that of the background", low=None),
    Measure("speech_modulation", "1", True, "how much the sound's bands swell at the rate of syllables"),
    Measure("clipped", "1", False, "share of samples at the limit of their channel", high=1.0),
)
"""In the order of their columns."""
