"""llama.cpp's server measured as the guide has it, where it is found: in this Python, or in the one
that CODEJOULE_LLAMA_PYTHON names. Its model is a tiny one with random weights."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.experiment.job import left_by, run_main, runs_of
from tests.generation.served import free_port
from tests.models.tiny_gguf import write_tiny_gguf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def python() -> str:
    """A Python that has the server."""
    named = os.environ.get("CODEJOULE_LLAMA_PYTHON", sys.executable)
    asked = subprocess.run(
        [named, "-c", "import llama_cpp.server.app"], check=False, capture_output=True
    )
    if asked.returncode:
        pytest.skip(
            f"{named} has no llama.cpp server; install it somewhere (pip install "
            "'llama-cpp-python[server]') and name that Python with CODEJOULE_LLAMA_PYTHON"
        )
    return named


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gguf") / "Tiny-Q8_0.gguf"
    write_tiny_gguf(made, chat=True)
    return made


@pytest.fixture(scope="module")
def url(python: str, file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the server that has loaded the file."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log"
    command = [python, "-m", "llama_cpp.server", "--model", str(file), "--n_ctx", "4096"]
    with (
        log.open("wb") as stream,
        subprocess.Popen([*command, "--port", str(port)], stdout=stream, stderr=stream) as process,
    ):
        address = f"http://127.0.0.1:{port}/v1"
        try:
            for _ in range(600):
                assert process.poll() is None, log.read_text()
                try:
                    urlopen(f"{address}/models", timeout=1).close()
                    break
                except URLError:
                    time.sleep(0.1)
            yield address
        finally:
            process.kill()


def test_the_packed_file_is_measured_and_proven(url: str, file: Path, tmp_path: Path) -> None:
    done = run_main(
        tmp_path, "engine=server", f"engine.url={url}", f"model={file}", "quant=gguf",
        "quant.bits=8", "suite.limit=3", "generation.max_new_tokens=24", "evaluator=none",
        "batch=b1", "meter=cpu_estimate",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = runs_of("codejoule", tmp_path)
    tags, figures = run.data.tags, run.data.metrics
    assert tags["codejoule.proof"] == "served: Tiny-Q8_0.gguf is mapped into the server's memory"
    assert tags["codejoule.stored_as"] == "GGUF Q8_0"
    assert run.data.params["quant.name"] == "gguf"
    assert figures["energy_generation_j"] > 0
    assert 3 <= figures["output_tokens"] <= 72
    (artifact,) = left_by("codejoule", tmp_path, "model.json")
    model = json.loads(artifact.read_text(encoding="utf-8"))
    assert {"name": "blk.*.ffn_up.weight", "type": "Q8_0", "count": 2} in model["stored_modules"]


def test_another_quantization_than_the_files_is_refused(
    url: str, file: Path, tmp_path: Path
) -> None:
    done = run_main(tmp_path, "engine=server", f"engine.url={url}", f"model={file}", "quant=none")
    assert done.returncode == 1
    assert "most are Q8_0; say so (quant=gguf quant.bits=8)" in done.stderr
