"""Emotion by what is said: words of a small lexicon, turned by negations and weighed by adverbs before them.

Words say what is spoken of, which is often not what is felt; a clip without words of the lexicon says nothing. The
rules of negation and degree follow Hutto & Gilbert, "VADER", 2014.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from annotate.emotion.base import NUM, Float64, Opinion, Pictures
from annotate.emotion.lexicon import NEGATIONS, STRONGER, look_up
from annotate.performance import Performance
from schemas.labels import EMOTIONS

REACH: Final = 3
"""Words before which a negation or an adverb of degree has its effect."""
SPREAD_S: Final = 2.0
"""Standard deviation in time of what a word says of its surroundings: a sentence."""
LOG_ODDS: Final = 2.2
"""Of a feeling named once, against the others."""
RELIABILITY: Final = 0.45
NEGATED: Final = 0.3
"""What is left of a word's own emotion under a negation; nothing else is put in its place but valence."""
VALENCE: Final = {"happiness": 1.0, "calm": 0.4, "surprise": 0.1}
"""Of one word; all other emotions have -1."""


class TextJudge:
    """See `annotate.emotion.base.EmotionClassifier`."""

    name = "text:lexicon-1"

    def judge(self, clip: Performance, windows: Float64, pictures: Pictures | None = None) -> Opinion | None:
        """See the protocol; None without words."""
        del pictures
        if not clip.words:
            return None
        labels = [word.label for word in clip.words]
        times = np.array([(word.start_us + word.end_us) / 2e6 for word in clip.words])
        found = word_evidence(labels)
        evidence = np.zeros((len(labels), NUM))
        valence = np.zeros(len(labels))
        for place, (emotion, strength, sign) in found.items():
            evidence[place, EMOTIONS.index(emotion)] = strength if sign > 0 else NEGATED * strength
            valence[place] = sign * strength * VALENCE.get(emotion, -1.0)
        middle = windows.mean(1)
        near = np.exp(-0.5 * ((middle[:, None] - times) / SPREAD_S) ** 2)
        amount = near @ evidence
        said = near @ np.abs(valence)
        known = said > 1e-3
        tone = np.divide(near @ valence, said, out=np.full(len(windows), np.nan), where=known)
        return Opinion(
            source=self.name,
            log_odds=LOG_ODDS * np.minimum(amount, 1.5),
            reliability=RELIABILITY * np.minimum(1.0, amount.sum(1)),
            valence=np.where(known, tone * np.minimum(1.0, said), np.nan),
            features={"text_valence": np.where(known, tone * np.minimum(1.0, said), 0.0)}
            | {f"text_{name}": amount[:, column] for column, name in enumerate(EMOTIONS)},
        )


def word_evidence(labels: list[str]) -> dict[int, tuple[str, float, int]]:
    """Place -> (emotion, strength, sign) of the words of a text that carry a feeling; sign -1 under a negation."""
    plain = [re.sub(r"[^\w']", "", label.lower()).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") for label in labels]
    found = {}
    for place, word in enumerate(plain):
        known = look_up(word)
        if known is None:
            continue
        before = plain[max(0, place - REACH) : place]
        factor = float(np.prod([STRONGER.get(other, 1.0) for other in before[-2:]]))
        negated = sum(other in NEGATIONS or other.endswith("n't") for other in before) % 2
        found[place] = (known[0], min(1.5, known[1] * factor), -1 if negated else 1)
    return found
