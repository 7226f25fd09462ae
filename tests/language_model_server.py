"""A local server that speaks the OpenAI-compatible protocol, and misbehaves as it is told to."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = {
    "caption": "She speaks fast and nods.",
    "emotion": "happiness",
    "emotion_confidence": 0.7,
    "words": [{"number": 1, "relevance": 0.9, "gesture": "iconic"}],
}


@dataclass
class Script:
    """What the server answers to one request after the other; the last answer repeats."""

    answers: list[Any]
    """A text: the model's answer. A number: a status. A dict: the whole body. A float: seconds of silence first."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of answers that are a status."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def body_of(text: str, **choice: Any) -> dict[str, Any]:
    """An answer as the protocol has it."""
    message = {"role": "assistant", "content": text}
    return {
        "model": "tiny-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100},
    }


@contextlib.contextmanager
def serving(script: Script) -> Iterator[str]:
    """The base URL of a server that follows the script."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            script.asked.append(json.loads(self.rfile.read(length)))
            script.keys.append(self.headers.get("Authorization"))
            script.paths.append(self.path)
            answer = script.answers[min(len(script.asked), len(script.answers)) - 1]
            if isinstance(answer, float):
                time.sleep(answer)
                answer = json.dumps(GOOD)
            status, headers = 200, {}
            if isinstance(answer, int):
                status, headers, content = answer, script.headers, b"{}"
            else:
                content = json.dumps(body_of(answer) if isinstance(answer, str) else answer).encode()
            with contextlib.suppress(OSError):  # who asked may be gone
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
