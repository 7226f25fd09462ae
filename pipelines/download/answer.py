"""What a transfer gives besides the bytes, and what the first bytes tell of it."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.download.sniff import is_no_video, page_title, sniff
from pipelines.download.uris import shown
from schemas.errors import TalksetError


@dataclass(frozen=True)
class Answer:
    """What a server gave besides the bytes."""

    final_uri: str
    etag: str | None = None
    last_modified: str | None = None
    unchanged: bool = False
    """Whether it said that what is known of the URI is still true, and gave no bytes."""


def check_head(uri: str, head: bytes) -> str:
    """Media type of what a URI gives, by its first bytes. Raises TalksetError not_a_video for what is surely none."""
    mime = sniff(head)
    if mime == "text/html":
        title = page_title(head)
        message = f"{shown(uri)} gives a web page{f' ({title!r})' if title else ''}, not a video"
        remedy = "Give the address of the file itself, or set run.download.sites=true for the page of a video site"
        raise TalksetError("not_a_video", message, remedy)
    if is_no_video(mime):
        raise TalksetError("not_a_video", f"{shown(uri)} gives {mime}, not a video", "Remove it from the manifest")
    return mime
