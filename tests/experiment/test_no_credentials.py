"""A password in a configuration never reaches a file."""

from pathlib import Path

import pytest

from tests.experiment.job import run_main

SECRET = "s3cr3t"
URI = f"http://me:{SECRET}@127.0.0.1:9"


def _written(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if SECRET in p.name or SECRET in _content(p)]


def _content(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


@pytest.mark.parametrize(
    ("overrides", "env"),
    [
        (["-m", "batch=b1,b8", "tracking=server", f"tracking.uri={URI}"], {}),
        (["-m", f"+engine.api_key={SECRET}"], {}),
        (["tracking=server"], {"MLFLOW_TRACKING_URI": URI}),
        (["tracking=with_password"], {}),
        (["-m", "batch=b1,b8", "tracking=with_password"], {}),
    ],
    ids=["override", "key", "variable", "file", "file in a sweep"],
)
def test_a_password_is_refused_before_anything_is_written(
    store: Path, overrides: list[str], env: dict[str, str]
) -> None:
    own = store / "conf" / "tracking"
    own.mkdir(parents=True)
    (own / "with_password.yaml").write_text(f"name: server\nexperiment: a\nuri: {URI}\n")
    done = run_main(store, *overrides, f"hydra.searchpath=[file://{store}/conf]", **env)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in said
    assert SECRET not in said and "Traceback" not in said
    assert _written(store) == [own / "with_password.yaml"]
