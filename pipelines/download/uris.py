"""URIs of sources: which of them are fetched, and how they are shown without what opens doors."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

SCHEMES: Final = ("http", "https", "s3", "gs")
_SECRET: Final = re.compile(r"key|token|secret|passw|signature|credential|^sig$|^auth", re.IGNORECASE)
"""Names of query parameters that open a door: presigned addresses of S3, Google and Azure, access tokens."""


def is_remote(uri: str) -> bool:
    """Whether a URI of a manifest is to be fetched."""
    return uri.partition("://")[0].lower() in SCHEMES and "://" in uri


def shown(uri: str) -> str:
    """A URI for messages: without user name, password and query, which may hold keys."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri.partition("?")[0].rpartition("@")[2]
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else uri


def public(uri: str) -> str:
    """A URI for a data set that travels: what names the source stays, user, password and signatures do not.

    Unlike `shown` it keeps the rest of the query, where video sites have their identifiers.
    """
    try:
        parts = urlsplit(uri)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return shown(uri)
    kept = [(name, value) for name, value in pairs if not _SECRET.search(name)]
    host = parts.netloc.rpartition("@")[2]
    if not parts.scheme or (host == parts.netloc and len(kept) == len(pairs)):
        return uri
    return urlunsplit((parts.scheme, host, parts.path, urlencode(kept), ""))
