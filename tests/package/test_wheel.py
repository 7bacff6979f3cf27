"""The wheel: what is in it, and that it works in an empty folder where there is no checkout."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from codejoule.config import checkout
from tests.experiment.job import clean_env

ROOT = checkout()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(built)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel, and this one's libraries beside it. Not
    this one's codejoule: a folder that is named in a ``.pth`` has its own ``.pth`` left unread."""
    folder = tmp_path_factory.mktemp("environment")
    command = [sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(folder)]
    subprocess.run(command, check=True)
    (place,) = folder.glob("lib/python*/site-packages")
    libraries = Path(pytest.__file__).parents[1]
    (place / "libraries.pth").write_text(f"{libraries}\n")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return folder / "bin" / "python"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def environment() -> dict[str, str]:
    unwanted = ("PYTHONPATH", "CODEJOULE_HOME")
    return {key: value for key, value in clean_env().items() if key not in unwanted}


def call(
    python: Path, folder: Path, *arguments: str, code: int = 0, **env: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(python), "-m", "codejoule", *arguments],
        cwd=folder, env=environment() | env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done


def test_the_wheel_has_what_the_checkout_has_and_nothing_else(wheel: Path) -> None:
    expected = {
        f"{inside}{file.relative_to(folder)}"
        for folder, inside in ((ROOT / "src", ""), (ROOT / "conf", "codejoule/conf/"))
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and ".egg-info" not in str(file)
    } - {"main.py"}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == expected
    assert {"codejoule/conf/config.yaml", "codejoule/py.typed"} <= packed


def test_an_installed_package_has_its_configuration_and_works_in_an_empty_folder(
    installed: Path, empty: Path
) -> None:
    program = (
        "import codejoule, sys\n"
        "from codejoule.cli import main\n"
        "from codejoule.config import checkout, conf_folder, environments, home, python_path\n"
        "assert codejoule.__file__.startswith(sys.prefix), codejoule.__file__\n"
        "assert str(conf_folder()).startswith(sys.prefix) and checkout() is None\n"
        "assert python_path() == {} and str(environments()).endswith('/cache/codejoule')\n"
        "assert main(['estimate', 'model=qwen_7b', 'quant=gptq4', 'gpu=l40s']) == 0\n"
        "assert main(['analyze']) == 1\n"
        "assert main(['run', '--cfg', 'job', '--package', 'batch']) == 0\n"
    )
    done = subprocess.run(
        [str(installed), "-c", program],
        cwd=empty, env=environment() | {"XDG_CACHE_HOME": f"{empty.parent}/cache"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "7,615,616,512" in done.stdout and "# @package batch\n" in done.stdout
    assert f"sqlite:///{empty}/mlruns/mlflow.db does not exist" in done.stderr
    assert "Make some with `codejoule run`" in done.stderr
    assert list(empty.iterdir()) == []


@pytest.mark.slow
def test_every_command_works_from_the_wheel(wheel: Path, installed: Path, empty: Path) -> None:
    """As a new user goes through them, by the script that pip installs."""
    pip = [sys.executable, "-m", "pip", "--python", str(installed), "install", "--quiet"]
    options = ["--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    subprocess.run([*pip, *options], check=True)
    script = installed.with_name("codejoule")
    said = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"codejoule \d+\.\d+\.\d+\n", said.stdout)
    assert "== Configuration groups" in call(installed, empty, "run", "--help").stdout
    searched = call(installed, empty, "run", "--info", "searchpath").stdout
    assert f"file://{installed.parents[1]}" in searched and str(ROOT) not in searched

    sweep = ("run", "-m", "model=starter", "quant=none,gptq8", "suite.limit=4")
    done = call(installed, empty, *sweep)
    assert "2 jobs: 2 finished." in done.stdout
    assert f"sqlite:///{empty}/mlruns/mlflow.db" in done.stderr
    assert "2 had finished before" in call(installed, empty, *sweep).stdout
    assert sorted(p.name for p in empty.iterdir()) == ["mlruns", "multirun"]

    assert "Take starter" in call(installed, empty, "analyze").stdout
    assert (empty / "outputs" / "analysis" / "index.html").is_file()
    call(installed, empty, "plan", "model=qwen_7b", "quant=none,gptq4", "gpu=h200")
    where = (
        "--baseline",
        "params.quant.name = 'none'",
        "--candidate",
        "params.quant.name = 'gptq8'",
    )
    gate = call(installed, empty, "gate", *where, "--max-energy-increase", "1000%")
    assert gate.returncode == 0
    call(installed, empty, "import-thesis", "tracking.experiment=thesis")
    call(installed, empty, "evaluate", "--suite", "starter", "--ground-truth", "--out", "judged")
    doctor = json.loads(call(installed, empty, "doctor", "--json").stdout)
    (store,) = [f["detail"] for f in doctor["findings"] if f["item"] == "tracking"]
    assert store.startswith(f"{empty}/mlruns/mlflow.db")
    assert "replay" in call(installed, empty, "meter", "--replay", "--", "true").stderr

    elsewhere = empty.with_name("elsewhere")
    call(installed, empty, "run", "suite.limit=2", CODEJOULE_HOME=str(elsewhere))
    assert sorted(p.name for p in elsewhere.iterdir()) == ["mlruns", "outputs"]


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


@pytest.mark.slow
def test_the_pages_are_served_on_the_next_free_port(
    installed: Path, empty: Path, empty_database: Path, busy_port: int
) -> None:
    (empty / "mlruns").mkdir()
    shutil.copy(empty_database, empty / "mlruns")
    with (empty / "said").open("w") as said:
        server = subprocess.Popen(
            [str(installed), "-m", "codejoule", "ui", "--port", str(busy_port)],
            cwd=empty, env=environment(), stdout=said, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        found = None
        for _ in range(300):
            found = re.search(r"at (http://127\.0\.0\.1:(\d+))", (empty / "said").read_text())
            if found:
                try:
                    page = urllib.request.urlopen(found[1], timeout=5).read()
                    break
                except OSError:
                    pass
            time.sleep(0.2)
        assert found is not None
        assert int(found[2]) > busy_port and b"MLflow" in page
        text = (empty / "said").read_text()
        assert f"Port {busy_port} is in use; taking {found[2]}.\n" in text
        assert f"sqlite:///{empty}/mlruns/mlflow.db" in text
    finally:
        server.terminate()
        server.wait()
