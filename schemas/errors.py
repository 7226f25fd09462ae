"""Errors that a run records instead of dying: each names a reason class, the thing, and the remedy."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, str]] = {
    "missing_file": "the path does not exist",
    "empty_file": "the file has zero bytes",
    "unreadable_file": "the file exists but may not be read",
    "not_a_video": "no container or video stream was recognised",
    "decode_error": "the container opened but its frames could not be decoded",
    "truncated": "the stream ended before the time its container promised",
    "sha256_mismatch": "the file is not the one that the manifest describes",
    "unsupported_uri": "the URI scheme is not supported",
    "unsafe_address": "the URI leads to an address that is not public, or to a scheme that is not fetched",
    "gone": "the server says that there is no such file, or no longer",
    "private": "the server refuses access to the file",
    "login_wall": "the server wants a login or a payment",
    "geo_blocked": "the server refuses access from this country, or by law",
    "rate_limited": "the server asks for fewer requests (transient)",
    "unavailable": "the server or the way to it failed (transient)",
    "too_slow": "the transfer stalled or took longer than the limit (transient)",
    "too_large": "the file or its picture is larger than the limit",
    "time_limit": "a step took longer than its time limit",
    "memory_limit": "a step needed more memory than its limit",
    "crashed": "native code ended its process, with the signal named",
    "duplicate": "the same content occurs earlier, in the manifest or as a copy",
    "too_short": "shorter than the shortest clip allowed",
    "no_face": "no face was found",
    "face_too_small": "the face is smaller than the smallest allowed",
    "ambiguous_faces": "several faces, and nothing tells which of them speaks",
    "two_speakers": "two visible people speak at once",
    "voice_over": "somebody speaks, but no face that is seen",
    "off_screen": "somebody speaks while no face is seen",
    "no_speech": "nobody speaks",
    "transition": "a fade or dissolve between two shots",
    "face_lost": "the face was not visible for long enough",
    "fit_failed": "the head model could not be fitted",
    "poor_fit": "the head model does not explain the landmarks",
    "body_lost": "the body was not visible for long enough",
    "poor_body": "the body's fit is implausible, shakes, or does not explain the landmarks",
    "out_of_sync": "sound and lips do not belong together",
    "low_quality": "a measure of picture or sound is beyond its threshold",
    "bad_transcript": "the transcript cannot be aligned",
    "no_audio": "the video carries no sound",
    "disk_full": "no space is left on the output device",
    "not_writable": "the output folder cannot be written",
    "bad_value": "a value is outside what is allowed",
    "missing_model": "a model file is not installed",
    "unsafe_file": "a file asks for more than data, such as code to be run",
    "corrupt_data": "stored data does not match its checksum or schema",
    "internal": "an unexpected error, with its traceback in the run folder",
}
"""Every reason class that may appear in a ledger or an index, with its meaning."""

TRANSIENT, UNCERTAIN, DETERMINISTIC = "transient", "uncertain", "deterministic"
ERROR_CLASSES: Final[dict[str, str]] = {
    "rate_limited": TRANSIENT,
    "unavailable": TRANSIENT,
    "too_slow": TRANSIENT,
    "corrupt_data": TRANSIENT,
    "time_limit": UNCERTAIN,
    "memory_limit": UNCERTAIN,
    "crashed": UNCERTAIN,
    "internal": UNCERTAIN,
}
"""Which failures may go away by themselves: transient ones are tried again up to `run.retry.attempts` times, uncertain
ones (a busy machine or a bad file, nobody can tell) once more, and all that are not named here are deterministic: the
same input fails in the same way. A damaged stored result is removed when it is found, so the next attempt makes it."""


def error_class(reason: str) -> str:
    """transient, uncertain or deterministic."""
    return ERROR_CLASSES.get(reason, DETERMINISTIC)


class TalksetError(Exception):
    """An error with a reason class (a key of `REASONS`), a message that names the thing and its value, and a remedy."""

    def __init__(self, reason: str, message: str, remedy: str = "") -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown reason class {reason!r}; add it to schemas.errors.REASONS")
        super().__init__(reason, message, remedy)
        self.reason = reason
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message


class UsageError(TalksetError):
    """The call itself is wrong (configuration, manifest, arguments); the command exits with status 2."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__("bad_value", message, remedy)

    def __reduce__(self) -> tuple[type[UsageError], tuple[str, str]]:
        return UsageError, (self.message, self.remedy)
