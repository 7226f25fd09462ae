"""Fingerprints as text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import TalksetError
from schemas.fingerprint import Fingerprint


@given(st.lists(st.integers(0, 2**32 - 1), max_size=40), st.lists(st.integers(-128, 127), max_size=40))
def test_a_fingerprint_survives_its_text(codes: list[int], values: list[int]) -> None:
    motion = np.array([values, values[::-1]], np.int8).T.reshape(-1, 2)
    made = Fingerprint(np.array(codes, np.uint32), motion)
    read = Fingerprint.from_text(made.text())
    np.testing.assert_array_equal(read.sound, made.sound)
    np.testing.assert_array_equal(read.motion, made.motion)


CUT = Fingerprint(np.ones(2, np.uint32), np.ones((1, 2), np.int8)).text()[:-4]


@pytest.mark.parametrize("text", ["", "!", "AAAA", CUT])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(TalksetError, match="is no fingerprint"):
        Fingerprint.from_text(text)
