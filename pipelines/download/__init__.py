"""Fetching sources that are not local files, into a folder that remembers them by content."""

from pipelines.download.cache import Cache, Fetched
from pipelines.download.fetch import content_path, fetch, known_sha256, local_file
from pipelines.download.uris import is_remote, public

__all__ = ["Cache", "Fetched", "content_path", "fetch", "is_remote", "known_sha256", "local_file", "public"]
