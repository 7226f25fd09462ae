"""What of an address may travel with a data set."""

from __future__ import annotations

import pytest

from pipelines.download import public


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("videos/a b.mp4", "videos/a b.mp4"),
        ("/data/x?y.mp4", "/data/x?y.mp4"),
        ("s3://bucket/a.mp4", "s3://bucket/a.mp4"),
        ("https://www.youtube.com/watch?v=abc&t=3", "https://www.youtube.com/watch?v=abc&t=3"),
        ("https://me:word@example.org/a.mp4", "https://example.org/a.mp4"),
        ("https://h/a.mp4?X-Amz-Credential=A%2Fb&X-Amz-Signature=12&X-Amz-Date=3", "https://h/a.mp4?X-Amz-Date=3"),
        ("https://h/a.mp4?sv=2020&sig=abc%3D", "https://h/a.mp4?sv=2020"),
        ("https://h/a.mp4?access_token=x&id=%20y", "https://h/a.mp4?id=+y"),
        ("http://[broken/a.mp4?token=x", "http://[broken/a.mp4"),
    ],
)
def test_doors_are_closed(uri: str, shown: str) -> None:
    assert public(uri) == shown
