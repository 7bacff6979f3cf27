"""What Python programs may use: it is what is listed, it is typed, and its examples run."""

import doctest
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import codejoule
from codejoule import api
from tests import warm
from tests.experiment.job import clean_env

FUNCTIONS = [name for name in codejoule.__all__ if inspect.isfunction(getattr(codejoule, name))]


def example(name: str) -> str:
    """The lines of a function's example."""
    found = doctest.DocTestParser().get_examples(getattr(codejoule, name).__doc__ or "")
    return "".join(line.source for line in found)


def test_the_package_offers_what_its_interface_lists() -> None:
    assert codejoule.__all__ == api.__all__ == sorted(api.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        codejoule.nothing  # noqa: B018


@pytest.mark.parametrize("name", codejoule.__all__)
def test_a_public_name_is_described(name: str) -> None:
    assert inspect.getdoc(getattr(codejoule, name))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_is_typed_and_has_an_example_of_five_lines(name: str) -> None:
    function = inspect.unwrap(getattr(codejoule, name))
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    assert len(example(name).splitlines()) <= 5


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import codejoule; print(set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0].lstrip("_") for name in eval(done.stdout)}
    assert loaded - {name.lstrip("_") for name in sys.stdlib_module_names} == {"codejoule"}


@pytest.mark.parametrize("name", ["measure", "judge", "predict"])
def test_the_example_runs_as_it_stands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(example(name), name, "exec"), {})
    said = capsys.readouterr().out
    assert {"measure": " estimate ", "judge": "pass pass", "predict": "True "}[name] in said


@pytest.mark.slow
def test_the_examples_of_runs_and_of_their_analysis_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program.py"
    program.write_text(example("run") + example("analyze"))
    monkeypatch.chdir(tmp_path)
    done = warm.run([str(program)], env=clean_env() | {"CODEJOULE_HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    first, second, answer = done.stdout.splitlines()[-3:]
    assert first.startswith("starter-none-b1 ") and second.startswith("starter-none-b8 ")
    assert "J per correct program" in answer
    assert (tmp_path / "mlruns" / "mlflow.db").is_file()


def test_a_wrong_configuration_is_refused_before_anything_runs() -> None:
    with pytest.raises(codejoule.ConfigError, match="quant=gptq3: no such choice"):
        codejoule.run("model=starter", "quant=none,gptq3")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=/a/m,/b/m"], "would all be recorded as m; give each a name"),
        (["tracking.experiment=one,two"], "tracking: cannot be swept over"),
    ],
)
def test_a_grid_that_could_not_be_told_apart_is_refused_as_the_command_refuses_it(
    overrides: list[str], said: str, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "m").mkdir(parents=True)
        (tmp_path / name / "m" / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(codejoule.ConfigError, match=said):
        codejoule.run(*(text.replace("/a/", f"{tmp_path}/a/").replace("/b/", f"{tmp_path}/b/")
                        for text in overrides))  # fmt: skip
