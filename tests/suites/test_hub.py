"""The hub, played by a server on this machine, and its cache."""

import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from codejoule.config import ConfigError, UserError
from codejoule.suites.hub import fetch

OWN = Path(__file__).parent / "data" / "bigcodebench.jsonl"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NOWHERE = "http://127.0.0.1:9"


class Hub(BaseHTTPRequestHandler):
    asked = 0

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        body = b""
        if self.path != "/":
            Hub.asked += 1
        if "/own/gated/" in self.path:
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
        elif "/own/absent/" in self.path:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
        elif "/resolve/v9/" in self.path:
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound")
        elif "/own/tasks/" in self.path and not self.path.endswith("/tasks.jsonl"):
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
        else:
            body = OWN.read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return tmp_path / "hub"


def get(endpoint: str, *, hub_id: str = "own/tasks", file: str = "tasks.jsonl", at: str = COMMIT):
    return fetch("own", hub_id, file, at, endpoint=endpoint)


def test_a_file_is_downloaded_and_its_commit_known(endpoint: str) -> None:
    path, commit = get(endpoint, at="main")
    assert path.read_bytes() == OWN.read_bytes()
    assert commit == COMMIT


def test_a_pinned_commit_is_asked_for_once(endpoint: str) -> None:
    get(endpoint)
    asked = Hub.asked
    assert get(endpoint) == get(NOWHERE)
    assert Hub.asked == asked


def test_a_branch_comes_from_the_cache_when_offline(endpoint: str) -> None:
    online = get(endpoint, at="main")
    assert get(NOWHERE, at="main") == online


def test_without_hub_and_cache_the_error_comes_quickly_and_says_what_to_do() -> None:
    started = time.perf_counter()
    with pytest.raises(UserError) as caught:
        get(NOWHERE)
    assert time.perf_counter() - started < 6
    said = str(caught.value)
    assert said.startswith(
        f"suite=own: cannot get tasks.jsonl of the dataset own/tasks at revision {COMMIT}: the "
        f"hub ({NOWHERE}) cannot be reached ("
    )
    assert "\n" not in said
    assert "name it: suite.path=FILE" in said


def test_an_emptied_cache_is_no_file(endpoint: str, cache: Path) -> None:
    get(endpoint)
    shutil.rmtree(cache)
    with pytest.raises(UserError, match="the cache does not hold it"):
        get(NOWHERE)


@pytest.mark.parametrize(
    ("hub_id", "file", "revision", "said"),
    [
        ("own/gated", "tasks.jsonl", COMMIT, "it is gated: accept its terms on the hub"),
        ("own/absent", "tasks.jsonl", COMMIT, "the hub has no such dataset, or it is private"),
        ("own/tasks", "tasks.jsonl", "v9", "the dataset has no such revision"),
        ("own/tasks", "other.jsonl", COMMIT, "the dataset has no such file"),
    ],
)
def test_the_hubs_refusals_have_their_words(
    endpoint: str, hub_id: str, file: str, revision: str, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        get(endpoint, hub_id=hub_id, file=file, at=revision)
    assert f"at revision {revision}: {said}" in str(caught.value)


def test_an_id_that_no_repository_can_have_is_a_wrong_configuration(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"suite\.hub_id=a/b/c: .*give OWNER/NAME, or null"):
        get(endpoint, hub_id="a/b/c")
