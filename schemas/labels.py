"""What labels may say: the classes of emotion, the kinds of events, and the descriptors of style with their units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EMOTIONS: Final = (*("neutral", "happiness", "anger", "sadness", "contempt", "surprise", "fear", "disgust", "calm"),)
"""In the order of every vector of probabilities. Calm is RAVDESS's: at rest and content, where neutral is blank."""

EVENT_KINDS: Final = {
    "emotion": "a span in which one emotion is the likeliest; label: the emotion, score: its mean probability",
    "blink": "both eyes shut and open again; label: blink",
    "head_gesture": "label: nod or shake",
    "gaze": "the eyes leave the camera's side; label: away",
    "key_motion": "a frame that carries the motion; label: a phone boundary or the extremum of a region",
    "gesture": "label: beat, deictic, iconic or metaphoric; score: how sure, quality in the label's last part",
    "semantic": "a word that carries meaning; label: the word, score: its relevance",
    "image_schema": "a word that evokes a picture of space or force (PATH, CONTAINER, UP-DOWN, ...)",
    "sentence": "label: the dialogue act, or the sentiment's sign",
    "style": "a manner that holds for a span",
    "caption": "what a language model says of the manner; label: the text",
}
"""Kind of an event -> what its label says."""


@dataclass(frozen=True)
class Descriptor:
    """One number that tells of a manner of speaking and moving; its column of the index is `style_` and the name."""

    name: str
    unit: str
    meaning: str
    low: float | None = 0.0
    high: float | None = None

    @property
    def column(self) -> str:
        """Column of the index."""
        return f"style_{self.name}"


DESCRIPTORS: Final = (
    Descriptor("syllables_per_s", "1/s", "vowels a second of speech, pauses left out"),
    Descriptor("pause_ratio", "1", "share of pauses between first and last speech", high=1.0),
    Descriptor("pause_s", "s", "mean length of pauses inside the speech"),
    Descriptor("pitch_hz", "Hz", "median fundamental frequency of the voice"),
    Descriptor("pitch_range_st", "semitones", "from the 5th to the 95th percentile of the fundamental frequency"),
    Descriptor("loudness_range_db", "dB", "from the 10th to the 95th percentile of the level of speech"),
    Descriptor("head_speed_deg_s", "deg/s", "RMS speed of the head's rotation"),
    Descriptor("head_rhythm_hz", "Hz", "mean frequency of the head's rotation, weighted by power"),
    Descriptor("mouth_range", "1", "RMS deviation of the weights of jaw, lips and cheeks from their means"),
    Descriptor("brow_range", "1", "the same of the brows"),
    Descriptor("eye_range", "1", "RMS deviation of the opening of the eyes over its median, without blinks"),
    Descriptor("smile", "1", "mean weight of the smile, both sides"),
    Descriptor("asymmetry", "1", "RMS difference of left and right over the RMS of their mean, with the face at rest"),
    Descriptor("blinks_per_min", "1/min", "blinks a minute"),
    Descriptor("gaze_away_ratio", "1", "share of the frames with the eyes off the camera's side", high=1.0),
    Descriptor("gestures_per_min", "1/min", "strokes of the hands a minute; absent without a body"),
    Descriptor("gesture_space_m", "m", "RMS distance of the wrists from their mean places; absent without a body"),
)
"""In the order of their columns."""
