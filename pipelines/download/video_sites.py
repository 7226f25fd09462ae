"""Pages of video sites, through yt-dlp (the optional extra `sites`), in a child process.

yt-dlp brings its own networking. In the child, every connection that it makes goes through a resolver that knows only
public addresses, and its other ways out (proxies, native HTTP libraries) are closed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pipelines.child import Limits, call_in_child
from pipelines.download.addresses import allowed_hosts, is_public
from pipelines.download.answer import Answer
from pipelines.download.cache import Cache, Partial
from pipelines.download.uris import shown
from schemas.config import DownloadConfig
from schemas.errors import TalksetError

MEMORY_BYTES: Final = 2_000_000_000
"""yt-dlp runs scripts of players; 300 MB are usual."""
REMEDY: Final = {
    "gone": "Remove it from the manifest",
    "private": "Ask the owner for access",
    "login_wall": "Fetch it with yt-dlp and an account of your own, and give the local path",
    "geo_blocked": "Fetch it from another place and give the local path",
    "not_a_video": "Give the address of a page with one video",
}
_SAID: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (r"\b(429|too many requests)\b|rate.?limit|not a bot", "rate_limited"),
        (
            r"your (country|location|region)|geo.?(restrict|block)|not (made )?available (in|from) (your|this)",
            "geo_blocked",
        ),
        (
            r"private (video|account|post)|(video|account|post|content) is private|members.only|join this channel",
            "private",
        ),
        (r"\b403\b|drm.protected|no permission|not authori[sz]ed", "private"),
        (r"log.?in|sign.?in|registered users|subscri|cookies|password|\b401\b|purchase|confirm your age", "login_wall"),
        (r"\b(404|410)\b|removed|deleted|terminated|does(n.t| not) exist|no longer available", "gone"),
        (r"video (is )?(unavailable|not available|not found)|isn.t available", "gone"),
        (r"unsupported url|no video (formats|could be) found|no video in|is not a valid url", "not_a_video"),
    )
)
"""What the messages of yt-dlp's extractors say, first match first."""


def is_site(uri: str) -> bool:
    """Whether yt-dlp knows the site of an address (its generic extractor, which takes anything, is not asked)."""
    _require()
    from yt_dlp.extractor import gen_extractor_classes

    return any(kind.suitable(uri) for kind in gen_extractor_classes() if kind.ie_key() != "Generic")


def fetch_page(uri: str, partial: Partial, settings: DownloadConfig, cache: Cache) -> Answer:
    """Bring the video of a page into `partial`.

    Raises TalksetError: gone, private, login_wall, geo_blocked, rate_limited, unavailable, too_large, not_a_video,
    unsafe_address, time_limit, missing_file where yt-dlp is not installed.
    """
    _require()
    folder = Path(tempfile.mkdtemp(prefix="page-", dir=cache.folder / "partial"))
    try:
        limits = Limits(settings.total_s, MEMORY_BYTES, settings=("run.download.total_s", "the memory of the machine"))
        file, final_uri = call_in_child(f"fetching {shown(uri)}", limits, _fetch, uri, folder, settings)
        partial.restart(None)
        partial.take(file)
        return Answer(final_uri)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def reason_of(error: BaseException) -> str:
    """Reason class of what yt-dlp raised: by its own classes first, then by the status, then by what it says."""
    from yt_dlp.networking.exceptions import HTTPError, TransportError
    from yt_dlp.utils import GeoRestrictedError, UnsupportedError

    from pipelines.download.http import REASON_OF

    chain = list(_chain(error))
    for kind, reason in ((GeoRestrictedError, "geo_blocked"), (UnsupportedError, "not_a_video")):
        if any(isinstance(link, kind) for link in chain):
            return reason
    for link in chain:
        if isinstance(link, TalksetError):
            return link.reason
        if isinstance(link, HTTPError) and link.status != 403:  # many sites answer 403 for a place or a login
            return REASON_OF.get(link.status, "unavailable")
    text = " ".join(str(link) for link in chain)
    if _REFUSED in text:
        return "unsafe_address"
    if any(isinstance(link, TransportError) and not isinstance(link, HTTPError) for link in chain):
        return "unavailable"
    return next((reason for pattern, reason in _SAID if pattern.search(text)), "unavailable")


_REFUSED: Final = "has no public address"


def _require() -> None:
    if importlib.util.find_spec("yt_dlp") is None:
        message = "run.download.sites is set, but yt-dlp is not installed"
        raise TalksetError("missing_file", message, "Install it with `pip install talkset[sites]`")


def _fetch(uri: str, folder: Path, settings: DownloadConfig) -> tuple[Path, str]:
    """The file of a page's video, and the page that it came from in the end; runs in the child."""
    import yt_dlp

    height = settings.site_height_px
    options: dict[str, Any] = {
        "format": f"bv*[height<={height}]+ba/b[height<={height}]/bv*+ba/b",
        "outtmpl": {"default": str(folder / "video.%(ext)s")},
        "merge_output_format": "mkv",
        "ffmpeg_location": _ffmpeg(),
        "max_filesize": round(settings.max_gb * 1e9),
        "socket_timeout": settings.stall_s,
        "retries": settings.attempts,
        "fragment_retries": settings.attempts,
        "sleep_interval_requests": settings.interval_s,
        "noplaylist": True,
        "playlist_items": "1",
        "proxy": "",
        "enable_file_urls": False,
        "hls_prefer_native": True,
        "cachedir": False,
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "nopart": True,
        "updatetime": False,
        "logger": _Silent(),
    }
    with _public_only(allowed_hosts(settings.allow_hosts)), _downloader(options) as downloader:
        try:
            found = downloader.extract_info(uri, download=True)
        except yt_dlp.utils.YoutubeDLError as error:
            reason = reason_of(error)
            text = re.sub(r"\x1b\[[0-9;]*m|^ERROR: |\r|\[download\] ", "", str(error))
            raise TalksetError(reason, f"{shown(uri)}: {text}", REMEDY.get(reason, "Run again later")) from None
    files = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: -path.stat().st_size)
    if not files:
        message = f"{shown(uri)}: the video is larger than run.download.max_gb={settings.max_gb:g}"
        raise TalksetError("too_large", message, "Raise the limit, or remove it from the manifest")
    return files[0], str((found or {}).get("webpage_url") or uri)


def _downloader(options: dict[str, Any]) -> Any:
    """yt-dlp with Python's own HTTP alone, whose connections pass `_public_only`."""
    import yt_dlp
    from yt_dlp.networking._urllib import UrllibRH

    class Downloader(yt_dlp.YoutubeDL):  # type: ignore[misc]
        def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
            del handlers
            return super().build_request_director([UrllibRH], preferences)

    return Downloader(options)


class _Silent:
    """A logger for yt-dlp: what matters comes as exceptions."""

    def debug(self, message: str) -> None:
        """Ignore."""

    info = warning = error = debug


@contextlib.contextmanager
def _public_only(allowed: frozenset[str]) -> Iterator[None]:
    """Let names of this process resolve to public addresses alone, but for the allowed hosts."""
    resolve = socket.getaddrinfo

    def resolve_public(host: Any, *args: Any, **kwargs: Any) -> Any:
        found = resolve(host, *args, **kwargs)
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.strip("[]").lower() in allowed:
            return found
        public = [place for place in found if is_public(str(place[4][0]))]
        if not public:
            raise socket.gaierror(socket.EAI_FAIL, f"the host {name!r} {_REFUSED}")
        return public

    socket.getaddrinfo = resolve_public
    try:
        yield
    finally:
        socket.getaddrinfo = resolve


def _ffmpeg() -> str:
    """The bundled ffmpeg, with which yt-dlp joins picture and sound."""
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception with what it carries: yt-dlp wraps the extractor's error in its own."""
    waiting, seen = [error], set()
    while waiting:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = [link.__cause__, getattr(link, "cause", None), *(getattr(link, "exc_info", None) or ())]
        waiting += [part for part in inner if isinstance(part, BaseException)]
