"""Downloads from a server that truncates, stalls, lies, redirects to where nobody should go, and changes its mind."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from download_server import Page, Server, content_of, running

from pipelines.download import Cache, fetch, http
from pipelines.download.cache import Fetched
from schemas.config import DownloadConfig
from schemas.errors import TalksetError

CONTENT = content_of(300_000)
OTHER = content_of(310_000, seed=1)


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as made:
        yield made


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 1e9)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.001)


def settings(**changes: Any) -> DownloadConfig:
    quick = {"allow_hosts": "127.0.0.1", "interval_s": 0.0, "stall_s": 5.0, "attempts": 4, "max_wait_s": 5.0}
    return DownloadConfig(**{**quick, **changes})


def reason(uri: str, cache: Cache, expected: str | None = None, **changes: Any) -> TalksetError:
    with pytest.raises(TalksetError) as caught:
        fetch(uri, expected, settings(**changes), cache)
    return caught.value


def assert_fetched(found: Fetched, content: bytes) -> None:
    with found:
        assert found.path.read_bytes() == content
        assert found.sha256 == hashlib.sha256(content).hexdigest()
        assert (found.bytes, found.mime) == (len(content), "video/mp4")


def test_a_file_comes_whole_and_is_known_by_its_content(server: Server, cache: Cache) -> None:
    uri = server.put("/a.mp4", Page(CONTENT))
    found = fetch(uri, None, settings(), cache)
    assert_fetched(found, CONTENT)
    assert found.path == cache.path(found.sha256)
    assert found.final_uri == uri
    assert_fetched(fetch(uri, None, settings(), cache), CONTENT)
    assert len(server.requests) == 1  # known for a day
    other = server.put("/elsewhere.mp4", Page(OTHER))
    assert_fetched(fetch(other, found.sha256, settings(), cache), CONTENT)
    assert len(server.requests) == 1  # content of that hash is there, wherever it came from


@pytest.mark.parametrize("etag", ['"one"', None])
def test_an_unchanged_file_is_asked_for_and_not_sent_again(server: Server, cache: Cache, etag: str | None) -> None:
    page = Page(CONTENT, etag=etag)
    uri = server.put("/a.mp4", page)
    fetch(uri, None, settings(), cache).close()
    assert_fetched(fetch(uri, None, settings(recheck_h=0.0), cache), CONTENT)
    assert len(server.requests) == 2
    assert server.requests[1][1].get("If-None-Match") == etag
    page.content, page.etag = OTHER, '"two"'
    assert_fetched(fetch(uri, None, settings(recheck_h=0.0), cache), OTHER)


def test_a_server_that_is_down_does_not_take_away_what_it_gave(
    server: Server, cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    page = Page(CONTENT)
    uri = server.put("/a.mp4", page)
    fetch(uri, None, settings(), cache).close()
    page.statuses = [503] * 4
    assert_fetched(fetch(uri, None, settings(recheck_h=0.0), cache), CONTENT)
    assert "what it gave before is used" in caplog.text
    page.statuses = [404]
    assert reason(uri, cache, recheck_h=0.0).reason == "gone"


def test_a_truncated_transfer_goes_on_where_it_broke_off(server: Server, cache: Cache) -> None:
    uri = server.put("/a.mp4", Page(CONTENT, cut_after=100_000, cuts=2))
    assert_fetched(fetch(uri, None, settings(), cache), CONTENT)
    ranges = [headers.get("Range") for headers in server.asked("/a.mp4")]
    assert ranges == [None, "bytes=100000-", "bytes=200000-"]
    assert server.requests[1][1]["If-Range"] == '"one"'


def test_without_an_etag_the_time_of_the_change_is_the_condition(server: Server, cache: Cache) -> None:
    uri = server.put("/a.mp4", Page(CONTENT, cut_after=100_000, cuts=1, etag=None, modified=1e9))
    assert_fetched(fetch(uri, None, settings(), cache), CONTENT)
    assert server.requests[1][1]["If-Range"] == formatdate(1e9, usegmt=True)


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_what_may_have_changed_is_not_gone_on_with(server: Server, cache: Cache, etag: str | None) -> None:
    uri = server.put("/a.mp4", Page(CONTENT, cut_after=100_000, cuts=1, etag=etag))
    assert_fetched(fetch(uri, None, settings(), cache), CONTENT)
    assert "Range" not in server.requests[1][1]


def test_a_server_that_ignores_ranges_gives_the_whole_file_again(server: Server, cache: Cache) -> None:
    uri = server.put("/a.mp4", Page(CONTENT, cut_after=100_000, cuts=1, ranges=False))
    assert_fetched(fetch(uri, None, settings(), cache), CONTENT)
    assert server.requests[1][1]["Range"] == "bytes=100000-"


@pytest.mark.parametrize("content", [OTHER, CONTENT[:50_000]])
def test_content_that_changes_between_attempts_is_never_mixed(server: Server, cache: Cache, content: bytes) -> None:
    def change(page: Page) -> None:
        page.content, page.etag = content, '"two"'

    uri = server.put("/a.mp4", Page(CONTENT, cut_after=100_000, cuts=1, then=change))
    assert_fetched(fetch(uri, None, settings(), cache), content)


def test_content_that_changes_behind_the_same_tag_fails_its_hash(server: Server, cache: Cache) -> None:
    def change(page: Page) -> None:
        page.content = OTHER

    uri = server.put("/a.mp4", Page(CONTENT, cut_after=100_000, cuts=1, then=change))
    assert reason(uri, cache, hashlib.sha256(CONTENT).hexdigest()).reason == "sha256_mismatch"
    assert_fetched(fetch(uri, hashlib.sha256(OTHER).hexdigest(), settings(), cache), OTHER)  # nothing of it stayed


def test_another_process_goes_on_with_what_is_there(server: Server, cache: Cache, tmp_path: Path) -> None:
    page = Page(CONTENT, cut_after=100_000)
    uri = server.put("/a.mp4", page)
    assert reason(uri, cache, attempts=1).reason == "unavailable"
    page.cut_after = None
    assert_fetched(fetch(uri, None, settings(), Cache(tmp_path / "cache", 1e9)), CONTENT)
    assert server.requests[-1][1]["Range"] == "bytes=100000-"


def test_a_length_that_is_never_reached_is_a_failure(server: Server, cache: Cache) -> None:
    uri = server.put("/a.mp4", Page(CONTENT, announced=400_000, ranges=False))
    error = reason(uri, cache)
    assert error.reason == "unavailable"
    assert "300000 bytes read, 100000 more expected" in error.message
    assert len(server.requests) == 4


def test_a_wrong_length_that_the_server_takes_back_is_forgiven(server: Server, cache: Cache) -> None:
    uri = server.put("/a.mp4", Page(CONTENT, announced=400_000))  # asked for the rest, it says that there is none
    assert_fetched(fetch(uri, None, settings(), cache), CONTENT)


def test_a_length_that_is_too_small_gives_what_it_says(server: Server, cache: Cache) -> None:
    uri = server.put("/a.mp4", Page(CONTENT, announced=1000))
    assert_fetched(fetch(uri, None, settings(), cache), CONTENT[:1000])
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert reason(server.put("/b.mp4", Page(CONTENT, announced=1000)), cache, sha256).reason == "sha256_mismatch"


def test_without_a_length_the_end_of_the_connection_is_the_end(server: Server, cache: Cache) -> None:
    assert_fetched(fetch(server.put("/a.mp4", Page(CONTENT, no_length=True)), None, settings(), cache), CONTENT)


def test_a_stalled_transfer_is_broken_off_and_resumed(server: Server, cache: Cache) -> None:
    uri = server.put("/a.mp4", Page(CONTENT, stall_after=100_000, stalls=1))
    assert_fetched(fetch(uri, None, settings(stall_s=0.3), cache), CONTENT)
    assert server.requests[1][1]["Range"] == "bytes=100000-"
    dead = server.put("/b.mp4", Page(CONTENT, stall_after=0))
    assert reason(dead, cache, stall_s=0.1, attempts=2).reason == "too_slow"


@pytest.mark.parametrize(
    ("page", "changes"),
    [
        (Page(CONTENT, byte_every_s=0.02), {"stall_s": 0.3, "attempts": 2}),  # never silent, and never done
        (Page(CONTENT, byte_every_s=0.02), {"total_s": 0.6, "min_kb_s": 0.0}),
        (Page(header_every_s=0.02), {"total_s": 0.6}),
    ],
)
def test_a_trickle_ends(server: Server, cache: Cache, page: Page, changes: dict[str, Any]) -> None:
    started = time.monotonic()
    assert reason(server.put("/a.mp4", page), cache, **changes).reason == "too_slow"
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("status", "expected"),
    [(404, "gone"), (410, "gone"), (401, "login_wall"), (402, "login_wall"), (403, "private"), (451, "geo_blocked")],
)
def test_a_lasting_refusal_is_asked_for_once(server: Server, cache: Cache, status: int, expected: str) -> None:
    error = reason(server.put("/a.mp4", Page(CONTENT, statuses=[status] * 9)), cache)
    assert (error.reason, len(server.requests)) == (expected, 1)
    assert str(status) in error.message
    assert error.remedy


@pytest.mark.parametrize(("status", "expected"), [(429, "rate_limited"), (503, "unavailable"), (500, "unavailable")])
def test_a_passing_refusal_is_tried_again(server: Server, cache: Cache, status: int, expected: str) -> None:
    assert_fetched(fetch(server.put("/a.mp4", Page(CONTENT, statuses=[status] * 3)), None, settings(), cache), CONTENT)
    error = reason(server.put("/b.mp4", Page(CONTENT, statuses=[status] * 4)), cache)
    assert error.reason == expected
    assert len(server.asked("/b.mp4")) == 4


@pytest.mark.parametrize("after", [lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_retry_after_is_waited_for(server: Server, cache: Cache, after: Callable[[], str]) -> None:
    uri = server.put("/a.mp4", Page(CONTENT, statuses=[429], headers={"Retry-After": after()}))
    assert_fetched(fetch(uri, None, settings(), cache), CONTENT)
    assert server.at[1] - server.at[0] > 0.9


def test_a_wait_that_is_too_long_is_left_to_a_later_run(server: Server, cache: Cache) -> None:
    uri = server.put("/a.mp4", Page(CONTENT, statuses=[503], headers={"Retry-After": "86400"}))
    error = reason(uri, cache)
    assert (error.reason, len(server.requests)) == ("unavailable", 1)
    assert "86400 s" in error.message


def test_redirects_are_followed_and_told(server: Server, cache: Cache) -> None:
    server.put("/b.mp4", Page(CONTENT))
    found = fetch(server.put("/a", Page(location="/b.mp4", statuses=[307])), None, settings(), cache)
    assert_fetched(found, CONTENT)
    assert found.final_uri == server.url("/b.mp4")


def test_redirects_in_circles_end(server: Server, cache: Cache) -> None:
    server.put("/b", Page(location="/a"))
    error = reason(server.put("/a", Page(location="/b")), cache)
    assert error.reason == "unavailable"
    assert "circles" in error.message
    for number in range(12):
        server.put(f"/c{number}", Page(location=f"/c{number + 1}"))
    assert "redirects more than 8 times" in reason(server.url("/c0"), cache).message


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.org/a.mp4", "gopher://x/", "data:text/plain,x"]
)
def test_redirects_to_other_schemes_are_refused(server: Server, cache: Cache, target: str) -> None:
    assert reason(server.put("/a", Page(location=target)), cache).reason == "unsafe_address"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.2",
        "[::1]",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.1.1",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "2130706433",
    ],
)
def test_redirects_to_private_addresses_are_refused(server: Server, cache: Cache, host: str) -> None:
    server.put("/secret", Page(CONTENT))
    error = reason(server.put("/a", Page(location=f"http://{host}:{server.port}/secret")), cache)
    assert error.reason == "unsafe_address"
    assert server.asked("/secret") == []


def test_private_addresses_are_refused_unless_allowed(server: Server, cache: Cache) -> None:
    uri = server.put("/a.mp4", Page(CONTENT))
    error = reason(uri, cache, allow_hosts="")
    assert error.reason == "unsafe_address"
    assert "allow_hosts=127.0.0.1" in error.remedy
    assert server.requests == []


def test_the_connection_goes_to_the_address_that_was_checked(
    server: Server, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that gives a public address first and a private one later must not lead to the private one."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "rebind.test":
            asked.append(host)
            host = "192.0.2.1" if len(asked) > 1 else "127.0.0.1"  # the second is never reached
        return resolve(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    server.put("/a.mp4", Page(CONTENT))
    uri = f"http://rebind.test:{server.port}/a.mp4"
    assert_fetched(fetch(uri, None, settings(allow_hosts="rebind.test"), cache), CONTENT)
    assert asked == ["rebind.test"]
    assert server.requests[0][1]["Host"] == f"rebind.test:{server.port}"


def test_over_tls_the_certificate_must_be_of_the_name(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection goes to an address, yet the name is what is asked for (SNI) and what is proven."""
    resolve = socket.getaddrinfo

    def local(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        return resolve("127.0.0.1" if str(host).endswith(".test") else host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", local)
    certificate = self_signed("videos.test", tmp_path / "server.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    allowed = settings(allow_hosts="videos.test,other.test", attempts=1)
    with running(context) as server:
        server.put("/a.mp4", Page(CONTENT, cut_after=100_000, cuts=1))
        uri = f"https://videos.test:{server.port}/a.mp4"
        assert_fetched(fetch(uri, None, settings(allow_hosts="videos.test"), cache), CONTENT)
        assert names == ["videos.test"] * 2
        with pytest.raises(TalksetError, match=r"doesn't match|mismatch"):
            fetch(f"https://other.test:{server.port}/a.mp4", None, allowed, cache)


def self_signed(name: str, path: Path) -> Path:
    """A certificate of a name with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(*form) + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_a_name_that_does_not_exist_is_unavailable(cache: Cache) -> None:
    assert reason("http://nowhere.invalid/a.mp4", cache, attempts=1).reason == "unavailable"


def test_nobody_listening_is_unavailable(cache: Cache) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert reason(f"http://127.0.0.1:{port}/a.mp4", cache, attempts=2).reason == "unavailable"


@pytest.mark.parametrize("length", [200, 500_000])
def test_a_web_page_is_said_to_be_one(server: Server, cache: Cache, length: int) -> None:
    page = b"<!DOCTYPE html><html><head><title>Please\n log in</title></head>" + b" " * length
    headers = {"Content-Type": "video/mp4"}  # content counts, not what is said of it
    error = reason(server.put("/a.mp4", Page(page, headers=headers)), cache)
    assert error.reason == "not_a_video"
    assert "web page ('Please log in')" in error.message
    assert list((cache.folder / "partial").iterdir()) == []


def test_text_and_nothing_are_no_video(server: Server, cache: Cache) -> None:
    assert reason(server.put("/a", Page(b'{"error": 1}' * 9)), cache).reason == "not_a_video"
    assert reason(server.put("/b", Page(b"")), cache).reason == "empty_file"


@pytest.mark.parametrize("no_length", [False, True])
def test_a_file_beyond_the_limit_is_not_kept(server: Server, cache: Cache, no_length: bool) -> None:
    uri = server.put("/a.mp4", Page(CONTENT, no_length=no_length))
    assert reason(uri, cache, max_gb=1e-4).reason == "too_large"
    assert list((cache.folder / "partial").iterdir()) == []


def test_content_that_is_packed_for_the_way_is_unpacked(server: Server, cache: Cache) -> None:
    page = Page(gzip.compress(CONTENT), headers={"Content-Encoding": "gzip"}, ranges=False)
    assert_fetched(fetch(server.put("/a.mp4", page), None, settings(), cache), CONTENT)
    bomb = Page(gzip.compress(bytes(30_000_000)), headers={"Content-Encoding": "gzip"})
    assert reason(server.put("/b.mp4", bomb), cache, max_gb=1e-3).reason == "too_large"


def test_the_manifest_hash_is_checked(server: Server, cache: Cache) -> None:
    uri = server.put("/a.mp4", Page(CONTENT))
    error = reason(uri, cache, "0" * 64)
    assert error.reason == "sha256_mismatch"
    assert hashlib.sha256(CONTENT).hexdigest() in error.message
    assert cache.open(hashlib.sha256(CONTENT).hexdigest()) is None


def test_secrets_are_sent_and_not_told(server: Server, cache: Cache) -> None:
    server.put("/a.mp4?key=abc", Page(CONTENT, statuses=[404]))
    error = reason(f"http://me:secret@127.0.0.1:{server.port}/a.mp4?key=abc", cache)
    assert server.requests[0][1]["authorization"] == "Basic bWU6c2VjcmV0"
    assert "secret" not in str(error)
    assert "abc" not in str(error)


def test_credentials_do_not_follow_to_another_host(server: Server, cache: Cache) -> None:
    server.put("/b.mp4", Page(CONTENT))
    server.put("/a", Page(location=f"http://localhost:{server.port}/b.mp4"))
    uri = f"http://me:secret@127.0.0.1:{server.port}/a"
    fetch(uri, None, settings(allow_hosts="127.0.0.1,localhost"), cache).close()
    assert "authorization" in server.asked("/a")[0]
    assert "authorization" not in server.asked("/b.mp4")[0]


def test_one_uri_is_fetched_once_by_many(server: Server, cache: Cache) -> None:
    uri = server.put("/a.mp4", Page(CONTENT))
    found: list[Fetched] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(uri, None, settings(), cache))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1
    assert {item.sha256 for item in found} == {hashlib.sha256(CONTENT).hexdigest()}


def test_other_schemes_are_not_fetched(cache: Cache) -> None:
    for uri in ("ftp://example.org/a.mp4", "a.mp4", "http:///a.mp4", "http://[bad/a.mp4"):
        assert reason(uri, cache).reason == "unsupported_uri"
