"""Pages of video sites: what yt-dlp's own exceptions mean, and real downloads through it from a local server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from download_server import Page, Server, running
from talking_clips import write_clip

from pipelines.child import close_children
from pipelines.download import Cache, fetch
from pipelines.download.video_sites import is_site, reason_of
from schemas.config import DownloadConfig
from schemas.errors import TalksetError

yt_dlp = pytest.importorskip("yt_dlp", reason="pip install 'talkset[sites]' to test video sites")

from yt_dlp.extractor.common import InfoExtractor  # noqa: E402
from yt_dlp.networking.common import Response  # noqa: E402
from yt_dlp.networking.exceptions import HTTPError, TransportError  # noqa: E402
from yt_dlp.utils import ExtractorError, GeoRestrictedError, UnsupportedError, UserNotLive  # noqa: E402


def status(code: int) -> Any:
    """What an extractor raises when a page answers with a status."""
    cause = HTTPError(Response(fp=None, url="http://stub.test/", headers={}, status=code))
    return ExtractorError("Unable to download webpage", cause=cause)


def login(extractor: Any) -> Any:
    with pytest.raises(ExtractorError) as caught:
        extractor.raise_login_required()
    return caught.value


def no_formats(extractor: Any) -> Any:
    with pytest.raises(ExtractorError) as caught:
        extractor.raise_no_formats("No video formats found!", expected=True)
    return caught.value


def said(text: str) -> Any:
    return ExtractorError(text, expected=True)


RAISED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "geo class": (lambda _: GeoRestrictedError("not here", countries=["DE"]), "geo_blocked"),
    "geo text": (lambda _: said("The uploader has not made this video available in your country"), "geo_blocked"),
    "private": (lambda _: said("Private video. Sign in if you've been granted access to this video"), "private"),
    "members": (lambda _: said("Join this channel to get access to members-only content"), "private"),
    "drm": (lambda _: said("This video is DRM protected"), "private"),
    "403": (lambda _: status(403), "private"),
    "login": (login, "login_wall"),
    "age": (
        lambda _: said("Sign in to confirm your age. This video may be inappropriate for some users"),
        "login_wall",
    ),
    "401": (lambda _: status(401), "login_wall"),
    "bot": (lambda _: said("Sign in to confirm you're not a bot. Use --cookies-from-browser"), "rate_limited"),
    "429": (lambda _: status(429), "rate_limited"),
    "limit": (
        lambda _: said("This content isn't available, try again later. You have been rate-limited"),
        "rate_limited",
    ),
    "removed": (lambda _: said("Video unavailable. This video has been removed by the uploader"), "gone"),
    "terminated": (lambda _: said("the YouTube account associated with this video has been terminated"), "gone"),
    "404": (lambda _: status(404), "gone"),
    "410": (lambda _: status(410), "gone"),
    "unsupported": (lambda _: UnsupportedError("http://stub.test/"), "not_a_video"),
    "formats": (no_formats, "not_a_video"),
    "network": (lambda _: ExtractorError("x", cause=TransportError("connection reset by peer")), "unavailable"),
    "500": (lambda _: status(502), "unavailable"),
    "not live": (lambda _: UserNotLive(video_id="a"), "unavailable"),
    "bug": (lambda _: KeyError("videoDetails"), "unavailable"),
}


@pytest.mark.parametrize("name", RAISED)
def test_what_an_extractor_raises_has_a_reason(name: str) -> None:
    made, expected = RAISED[name]

    class StubIE(InfoExtractor):  # type: ignore[misc]
        _VALID_URL = r"https?://stub\.test/"

        def _real_extract(self, url: str) -> Any:
            raise made(self)

    with yt_dlp.YoutubeDL({"quiet": True, "logger": Quiet()}, auto_init=False) as downloader:
        downloader.add_info_extractor(StubIE())
        with pytest.raises(yt_dlp.utils.YoutubeDLError) as caught:
            downloader.extract_info("http://stub.test/", download=False)
    assert reason_of(caught.value) == expected


class Quiet:
    def debug(self, message: str) -> None:
        del message

    warning = error = debug


def test_known_sites_are_known() -> None:
    assert is_site("https://www.youtube.com/watch?v=BaW_jenozKc")
    assert is_site("https://vimeo.com/76979871")
    assert not is_site("https://example.org/a.mp4")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as made:
        yield made
    close_children()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    return write_clip(path, [np.full((48, 64, 3), i, np.uint8) for i in range(10)]).read_bytes()


def settings(**changes: Any) -> DownloadConfig:
    quick = {"allow_hosts": "127.0.0.1", "interval_s": 0.0, "stall_s": 5.0, "attempts": 1, "sites": True}
    return DownloadConfig(**{**quick, **changes})


def page(body: str) -> Page:
    return Page(
        f"<!doctype html><html><title>Talk</title>{body}</html>".encode(), headers={"Content-Type": "text/html"}
    )


def test_the_video_of_a_page_comes_through_yt_dlp(server: Server, video: bytes, tmp_path: Path) -> None:
    server.put("/talk.mp4", Page(video, headers={"Content-Type": "video/mp4"}))
    uri = server.put("/talk", page('<video src="/talk.mp4"></video>'))
    cache = Cache(tmp_path, 1e9)
    with fetch(uri, None, settings(), cache) as found:
        assert found.path.read_bytes() == video
        assert found.mime == "video/mp4"
    before = len(server.requests)
    fetch(uri, None, settings(), cache).close()
    assert len(server.requests) == before
    assert list((tmp_path / "partial").iterdir()) == []


def test_without_sites_a_page_is_no_video(server: Server, tmp_path: Path) -> None:
    uri = server.put("/talk2", page(""))
    with pytest.raises(TalksetError, match=r"run\.download\.sites=true") as caught:
        fetch(uri, None, settings(sites=False), Cache(tmp_path, 1e9))
    assert caught.value.reason == "not_a_video"


def test_a_page_without_a_video_is_no_video(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TalksetError) as caught:
        fetch(server.put("/nothing", page("<p>words</p>")), None, settings(), Cache(tmp_path, 1e9))
    assert caught.value.reason == "not_a_video"


def test_a_page_does_not_lead_to_private_addresses(server: Server, video: bytes, tmp_path: Path) -> None:
    server.put("/secret.mp4", Page(video, headers={"Content-Type": "video/mp4"}))
    uri = server.put("/evil", page(f'<video src="http://localhost:{server.port}/secret.mp4"></video>'))
    with pytest.raises(TalksetError) as caught:
        fetch(uri, None, settings(), Cache(tmp_path, 1e9))
    assert caught.value.reason == "unsafe_address"
    assert server.asked("/secret.mp4") == []


def test_a_video_beyond_the_limit_is_not_kept(server: Server, video: bytes, tmp_path: Path) -> None:
    server.put("/long.mp4", Page(video, headers={"Content-Type": "video/mp4"}))
    uri = server.put("/long", page('<video src="/long.mp4"></video>'))
    with pytest.raises(TalksetError) as caught:
        fetch(uri, None, settings(max_gb=len(video) / 2e9), Cache(tmp_path, 1e9))
    assert caught.value.reason == "too_large"
