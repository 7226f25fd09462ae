from __future__ import annotations

import pytest

from annotate.phones import ARPABET, ARPABET_TO_IPA, IPA_TO_ARPABET, arpabet_of, ipa_of
from annotate.text import dictionary
from schemas.errors import UsageError


def test_the_table_has_the_phones_of_the_dictionary() -> None:
    assert {phone for entry in dictionary().values() for phone in entry} == ARPABET
    assert len(set(ARPABET_TO_IPA.values())) == len(ARPABET)


@pytest.mark.parametrize("phone", sorted(ARPABET))
def test_there_and_back(phone: str) -> None:
    assert arpabet_of(ipa_of(phone)) == (phone,)
    assert arpabet_of("ˈ" + ipa_of(phone) + "ː") == (phone,)


def test_known_words() -> None:
    assert [ipa_of(phone) for phone in ("TH", "IH1", "NG", "k")] == ["θ", "ɪ", "ŋ", "k"]
    assert arpabet_of("t͡ʃ") == ("CH",)
    assert arpabet_of("ə") == ("AH",)
    assert arpabet_of("l̩") == ("AH", "L")
    assert {phone for phones in IPA_TO_ARPABET.values() for phone in phones} == ARPABET


def test_other_symbols_are_named() -> None:
    with pytest.raises(UsageError, match="'œ'"):
        arpabet_of("œ")
    with pytest.raises(UsageError, match="'QQ'"):
        ipa_of("QQ")
