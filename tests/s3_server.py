"""A local S3 server for tests."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import pyarrow.fs as pafs
import pytest


@contextlib.contextmanager
def s3_server() -> Iterator[tuple[pafs.S3FileSystem, str]]:
    """A file system with an empty bucket named `bucket`, and the URL of what is in the server, with %s for the path."""
    server = pytest.importorskip("moto.server", reason="pip install 'moto[server]' to test against S3")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request would cost more than the request
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        running.start()
        address = "{}:{}".format(*running.get_host_and_port())
        options = {"endpoint_override": address, "scheme": "http", "region": "us-east-1"}
        filesystem = pafs.S3FileSystem(**options, allow_bucket_creation=True)
        filesystem.create_dir("bucket")
        yield filesystem, f"s3://%s?endpoint_override={address}&scheme=http&region=us-east-1"
        running.stop()
