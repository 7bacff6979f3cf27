import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from codejoule.common.progress import told_to
from codejoule.config import ConfigError, UserError
from codejoule.config.schema import Method, ModelConfig, QuantConfig, Weights
from codejoule.models import load_model, locate_checkpoint
from codejoule.models.checkpoint import Checkpoint
from codejoule.models.folder import has_chat_template
from codejoule.models.hub import fetch_config
from tests.common.watcher import Notes

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NONE = QuantConfig(name="none")


class Hub(BaseHTTPRequestHandler):
    """Answers as huggingface.co does, for the repositories of these tests."""

    folder: Path

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            self._api(self.path.removeprefix("/api/models/").partition("?")[0])
        else:
            self._file(send=True)

    def do_HEAD(self) -> None:
        self._file(send=False)

    def _api(self, path: str) -> None:
        if path.startswith("me/absent"):
            self._refuse(404, "RepoNotFound")
        elif "/revision/nowhere" in path:
            self._refuse(404, "RevisionNotFound")
        elif path.startswith("me/gated/auth-check"):
            self._refuse(403, "GatedRepo")
        elif path.startswith("me/broken"):
            self._refuse(500, "")
        elif "/tree/" in path:
            self._json([{"type": "file", "oid": "0"} | entry for entry in self._files("path")])
        else:
            gated = "manual" if path.startswith("me/gated") else False
            facts = {"id": "me/open", "sha": COMMIT, "gated": gated}
            self._json(facts | {"siblings": self._files("rfilename")})

    def _files(self, key: str) -> list[dict[str, object]]:
        files = sorted(self.folder.iterdir())
        return [{key: file.name, "size": file.stat().st_size} for file in files]

    def _json(self, payload: object) -> None:
        body = json.dumps(payload).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", "no")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, *, send: bool) -> None:
        file = self.folder / Path(self.path).name
        if not file.exists():
            self._refuse(404, "EntryNotFound")
            return
        body = file.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if send:
            self.wfile.write(body)


@pytest.fixture
def hub(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("Served", (Hub,), {"folder": tiny_folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


KNOWN = {"model_type": "llama"}
"""What a preset says of its architecture."""


def model(name: str = "me/open", **changes: Any) -> ModelConfig:
    return ModelConfig(name="mine", id=name, weights=Weights.hub, cpu_threads=1, **changes)


def locate(config: ModelConfig, cache: Path, quant: QuantConfig = NONE) -> Checkpoint:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache / "hub"))
        return locate_checkpoint(config, quant, cache_dir=cache / "q")


@pytest.mark.usefixtures("no_hub")
def test_without_access_the_message_is_quick_and_offers_both_ways_out(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        locate(model("Qwen/Qwen2.5-7B-Instruct", architecture=KNOWN), tmp_path)
    assert time.monotonic() - began < 5
    text = str(caught.value)
    assert text.startswith("Qwen/Qwen2.5-7B-Instruct: the hub cannot be reached")
    assert "model=/path/to/folder" in text
    assert "model.weights=random" in text
    assert "\n" not in text


@pytest.mark.usefixtures("no_hub")
def test_random_weights_are_offered_for_quantized_models_too(tmp_path: Path) -> None:
    quant = QuantConfig(name="gptq4", method=Method.gptq, bits=4)
    config = model(quantized={"gptq4": "me/open-GPTQ-Int4"}, architecture=KNOWN)
    with pytest.raises(UserError) as caught:
        locate(config, tmp_path, quant)
    assert str(caught.value).startswith("me/open-GPTQ-Int4: ")
    assert "model=/path/to/folder quant=gptq4" in str(caught.value)
    assert "model.weights=random" in str(caught.value)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("config", "words"),
    [
        (model("me/gated"), ["accepted their licence", "huggingface.co/me/gated", "hf auth login"]),
        (model(revision="nowhere"), ["no revision 'nowhere'", "model.revision"]),
        (model("me/absent"), ["no such repository", "model.id"]),
        (model("a/b/c"), ["not a repository's name", "model.id"]),
        (model("me/broken"), ["the hub answered with an error", "model=/path/to/folder"]),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(
    config: ModelConfig, words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        locate(config, tmp_path)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("hub")
def test_weights_are_downloaded_once_and_then_need_no_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    with told_to(notes):
        found = locate(model(), tmp_path)
    told = [line for line in notes.done if line.startswith("downloading")]
    assert re.fullmatch(r"downloading me/open: [\d.]+ MB", told[0])
    assert re.fullmatch(r"downloading me/open: ([\d.]+ MB) of \1", told[-1])
    assert found.path is not None and found.path.name == COMMIT
    assert found.checksum == f"me/open@{COMMIT}"
    assert found.source == f"hub:me/open@{COMMIT}"
    loaded = load_model(found, model(), NONE, device="cpu")
    assert loaded.facts.source == found.source
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert locate(model(), tmp_path) == found


@pytest.mark.usefixtures("hub")
def test_a_cache_without_the_tokenizer_is_completed(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = locate(model(), tmp_path).path
    assert folder is not None
    # As loading the model alone leaves the cache.
    for file in folder.iterdir():
        if file.name != "config.json" and file.suffix != ".safetensors":
            file.unlink()
    assert fetch_config("me/open", "main", remedy="") == folder
    assert not (folder / "tokenizer_config.json").exists()
    assert fetch_config("me/open", "main", remedy="", tokenizer=True) == folder
    assert has_chat_template(folder) == has_chat_template(tiny_folder)
    assert (folder / "tokenizer_config.json").exists()
    assert not (folder / "tokenizer.json").exists()
    (folder / "tokenizer_config.json").unlink()
    assert locate(model(), tmp_path).path == folder
    assert {file.name for file in folder.iterdir()} == {file.name for file in tiny_folder.iterdir()}
    for file in folder.glob("tokenizer*"):
        file.unlink()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"cannot be reached .* not whole in the cache"):
        locate(model(), tmp_path)


@pytest.mark.usefixtures("hub")
def test_a_disk_too_small_is_told_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"needs .* GiB, but .* has 0\.0 GiB free; .*HF_HOME"):
        locate(model(), tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"layer_types": ["linear_attention"]}, "some of its layers have linear attention"),
        (
            {"quantization_config": {"quant_method": "mxfp4"}},
            "its weights are quantized with mxfp4",
        ),
    ],
)
def test_what_would_not_run_is_refused_before_its_weights_are_downloaded(
    change: dict[str, Any], text: str, hub: type[Hub], tiny_folder: Path, tmp_path: Path
) -> None:
    hub.folder = tmp_path / "other"
    shutil.copytree(tiny_folder, hub.folder)
    config = json.loads((tiny_folder / "config.json").read_text())
    (hub.folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ConfigError, match=text):
        locate(model(), tmp_path / "cache")
    there = {file.name for file in (tmp_path / "cache").rglob("snapshots/*/*")}
    assert there == {"config.json"}


@pytest.mark.usefixtures("hub")
def test_a_disk_that_fills_up_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    import huggingface_hub

    real = huggingface_hub.snapshot_download

    def full(*args: Any, **options: Any) -> str:
        if options.get("local_files_only"):
            return str(real(*args, **options))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(UserError, match=r"the disk of .* is full; move the cache with HF_HOME"):
        locate(model(), tmp_path)
