"""Native chatter is held back, everything else comes through, also from inside a second quiet."""

from __future__ import annotations

import os

import pytest

from reconstruct.quiet import quiet


def test_only_known_noise_is_held_back_even_when_quiet_is_nested(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        os.write(2, b"outer line\nI0000 inference_feedback_manager.cc:114 chatter\n")
        with quiet():
            os.write(2, b"inner line\nWarp CUDA warning: Could not find a driver\n")
        os.write(2, b"last line\n")

    assert capfd.readouterr().err.splitlines() == ["outer line", "inner line", "last line"]


def test_what_was_written_before_an_error_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    def write_and_fail() -> None:
        os.write(2, b"why it failed\n")
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError), quiet():
        write_and_fail()

    assert "why it failed" in capfd.readouterr().err
