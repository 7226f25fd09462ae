"""The 39 phones of American English: ARPAbet, as dictionaries write them, and IPA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from schemas.errors import UsageError

ARPABET_TO_IPA: Final[Mapping[str, str]] = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "aʊ", "AY": "aɪ", "B": "b", "CH": "tʃ", "D": "d", "DH": "ð",
    "EH": "ɛ", "ER": "ɝ", "EY": "eɪ", "F": "f", "G": "ɡ", "HH": "h", "IH": "ɪ", "IY": "i", "JH": "dʒ", "K": "k",
    "L": "l", "M": "m", "N": "n", "NG": "ŋ", "OW": "oʊ", "OY": "ɔɪ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ",
    "T": "t", "TH": "θ", "UH": "ʊ", "UW": "u", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip
"""Without stress, so AH is both ʌ and the schwa, and ER both ɝ and ɚ; the stressed form is given."""

ARPABET: Final = frozenset(ARPABET_TO_IPA)
VOWELS: Final = frozenset(["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"])
"""One in every syllable."""

IPA_TO_ARPABET: Final[Mapping[str, tuple[str, ...]]] = {
    **{ipa: (phone,) for phone, ipa in ARPABET_TO_IPA.items()},
    "ə": ("AH",), "ɚ": ("ER",), "ɜ": ("ER",), "ɐ": ("AH",), "ɨ": ("IH",), "r": ("R",), "g": ("G",), "ɾ": ("T",),
    "ɒ": ("AA",), "a": ("AA",), "e": ("EY",), "o": ("OW",), "ʔ": ("T",), "x": ("K",), "ɡ": ("G",), "n̩": ("AH", "N"),
    "l̩": ("AH", "L"), "m̩": ("AH", "M"), "ɫ": ("L",), "ʧ": ("CH",), "ʤ": ("JH",), "ʍ": ("W",), "i̯": ("IY",),
}  # fmt: skip
"""IPA without stress, length and tie marks; one symbol may stand for two phones."""

_MARKS: Final = str.maketrans("", "", "ˈˌːˑ͜͡")


def ipa_of(arpabet: str) -> str:
    """IPA of an ARPAbet phone, with or without a stress digit. Raises UsageError for another label."""
    phone = arpabet.rstrip("012").upper()
    if phone not in ARPABET_TO_IPA:
        raise UsageError(f"unknown phone {arpabet!r}", f"Use ARPAbet: {' '.join(sorted(ARPABET))}")
    return ARPABET_TO_IPA[phone]


def arpabet_of(ipa: str) -> tuple[str, ...]:
    """ARPAbet of an IPA symbol of English; stress, length and tie marks do not count.

    Raises UsageError for a symbol that has none.
    """
    plain = ipa.translate(_MARKS)
    if plain not in IPA_TO_ARPABET:
        raise UsageError(f"the IPA symbol {ipa!r} is no phone of American English", "Give ARPAbet instead")
    return IPA_TO_ARPABET[plain]
