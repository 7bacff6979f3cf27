"""What a launcher lacks is said before a sweep begins, with what to do about it."""

from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from codejoule.config import ConfigError, UserError, conf_folder, extras
from codejoule.config.compose import compose_sweep
from hydra_plugins.codejoule_launchers.ray import RayLauncher
from hydra_plugins.codejoule_launchers.slurm import SlurmLauncher


def options(name: str) -> dict[str, Any]:
    config = OmegaConf.load(conf_folder() / "hydra" / "launcher" / f"{name}.yaml")
    found = OmegaConf.create({"hydra": {"sweep": {"dir": "x"}, "launcher": config}}).hydra.launcher
    return {str(key): value for key, value in found.items() if key != "_target_"}


def set_up(launcher: SlurmLauncher | RayLauncher) -> None:
    launcher.setup(
        hydra_context=None,
        task_function=None,
        config=HydraConfig.instance().cfg,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("launcher", "distribution", "extra"),
    [
        (SlurmLauncher, "submitit", "cluster"),
        (RayLauncher, "ray", "ray"),
    ],
)
def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    launcher: Any, distribution: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "version", version)
    name = extra if extra == "ray" else "slurm"
    said = (
        f"hydra/launcher={name}: {distribution} is not installed: pip install 'codejoule[{extra}]'"
    )
    with pytest.raises(UserError) as raised:
        set_up(launcher(**options(name)))
    assert str(raised.value) == said


def test_a_machine_without_slurm_is_no_place_for_its_launcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extras, "require_choice", lambda choice: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UserError, match="sbatch and squeue not found: start the sweep where"):
        set_up(SlurmLauncher(**options("slurm")))


def test_a_typo_in_a_launchers_key_is_told_with_where_the_keys_are() -> None:
    with pytest.raises(ConfigError) as raised:
        compose_sweep(["hydra/launcher=slurm", "hydra.launcher.partion=gpu"])
    assert str(raised.value) == (
        "hydra.launcher.partion=gpu: no such key; --cfg hydra --package hydra.launcher in its "
        "place, and without -m, shows the keys that there are"
    )


@pytest.mark.parametrize("name", ["joblib", "slurm", "ray"])
def test_every_launcher_composes_as_it_is(name: str) -> None:
    assert len(compose_sweep([f"hydra/launcher={name}", "batch=b1,b4"])) == 2
