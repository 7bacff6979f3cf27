"""A real `transformers serve` of the bundled model, and a server that answers as it is told."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from codejoule.config import checkout

STARTER = checkout() / "src/codejoule/models/starter/none"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def transformers_serve(model: Path, log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of the API, and the server's process."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model)]
    command += ["--device", "cpu", "--port", str(port), "--host", "127.0.0.1"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (
        log.open("wb") as stream,
        subprocess.Popen(command, stdout=stream, stderr=stream, env=environment) as process,
    ):
        try:
            for _ in range(600):
                assert process.poll() is None, log.read_text()
                try:
                    urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                    break
                except URLError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1", process
        finally:
            process.kill()


Answer = Callable[[dict[str, Any]], tuple[int, list[str]]]
"""From a request to a status and the lines of the answer."""


def event(text: str = "", finish: str | None = None, **usage: int) -> str:
    """One event of a stream."""
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return "data: " + json.dumps({"choices": [choice]} | ({"usage": usage} if usage else {}))


@contextmanager
def told_server(answer: Answer, *, models: list[str] | None = None) -> Iterator[str]:
    """A server on this machine that answers completions as `answer` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/v1/models":
                self.send_error(404)
                return
            self._send(200, [json.dumps({"data": [{"id": m} for m in models or ["told"]]})])

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            self._send(*answer(json.loads(self.rfile.read(length))))

        def _send(self, status: int, lines: list[str]) -> None:
            self.send_response(status)
            self.end_headers()
            for line in lines:
                self.wfile.write(f"{line}\n\n".encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
