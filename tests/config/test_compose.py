"""Every choice of every group composes and is what it says."""

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from codejoule.config import ConfigError
from codejoule.config.compose import SweepComposer, compose_sweep, register_schemas
from codejoule.config.schema import ExperimentConfig
from codejoule.config.typed import from_plain, to_experiment, to_plain
from codejoule.domain import METHODS
from codejoule.domain.engines import engines_for

CONF = Path(__file__).resolve().parents[2] / "conf"
CHOICES = [
    (folder.name, file.stem)
    for folder in sorted(CONF.iterdir())
    if folder.is_dir() and folder.name not in ("base", "experiment", "hydra")
    for file in sorted(folder.glob("*.yaml"))
]
DESIGNED_MODELS = {
    "starter", "qwen_0_5b", "qwen_1_5b", "qwen_3b", "qwen_7b", "qwen_14b", "qwen_0_5b_base",
    "qwen_1_5b_base", "qwen_3b_base", "qwen_7b_base", "qwen_14b_base", "qwen_coder_7b",
    "llama_8b", "deepseek_coder_16b",
}  # fmt: skip


def composed(*overrides: str) -> DictConfig:
    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes(group: str, choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("CODEJOULE_SERVER_URL", "http://127.0.0.1:8000/v1")
    # The first engine that runs it: some formats are vLLM's alone.
    engine = f"engine={engines_for(choice)[0]}" if choice in METHODS else "engine=generate"
    others = [] if group == "engine" else [engine]
    experiment = to_experiment(composed(f"{group}={choice}", *others))
    part = getattr(experiment, group)
    if hasattr(part, "name"):
        name = part.name if isinstance(part.name, str) else part.name.value
        # evaluator=ray is the same sandbox on other machines, and no other result.
        assert name == {"ray": "sandbox"}.get(choice, choice)
    # Text for text, as fingerprints see it: 10 is no 10.0.
    plain = to_plain(experiment)
    assert json.dumps(to_plain(from_plain(plain))) == json.dumps(plain)


@pytest.mark.parametrize("preset", sorted(f.stem for f in (CONF / "experiment").glob("*.yaml")))
def test_every_preset_composes(preset: str) -> None:
    to_experiment(composed(f"+experiment={preset}"))


def test_all_models_of_the_design_are_there() -> None:
    assert {file.stem for file in (CONF / "model").glob("*.yaml")} >= DESIGNED_MODELS


GROUPS = sorted({group for group, _ in CHOICES})


def _documented(file: Path) -> set[str]:
    """The keys of a YAML, nested ones with dots, below which a comment or beside which one stands;
    fails for a key without."""
    found, above, parents = set(), "", {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        key, _, value = line.strip().partition(":")
        if key.isidentifier() and key != "defaults":
            assert above.strip().startswith("#") or " # " in value, f"{file.name}:{number}: {line}"
            indent = len(line) - len(line.lstrip())
            parents[indent] = key
            found.add(".".join(name for depth, name in sorted(parents.items()) if depth <= indent))
        above = line
    return found


def _keys(schema: type, prefix: str = "") -> set[str]:
    found = set()
    for field in fields(schema):
        found.add(f"{prefix}{field.name}")
        hint = get_type_hints(schema)[field.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            found |= _keys(hint, f"{prefix}{field.name}.")
    return found


@pytest.mark.parametrize("group", GROUPS)
def test_every_field_of_a_group_is_documented_in_its_base_file(group: str) -> None:
    schema = get_type_hints(ExperimentConfig)[group]
    assert _documented(CONF / "base" / f"{group}.yaml") == _keys(schema)


def test_every_field_of_the_main_file_has_a_comment() -> None:
    text = (CONF / "config.yaml").read_text(encoding="utf-8").partition("  - _self_")[2]
    own = _keys(ExperimentConfig) - {k for g in GROUPS for k in _keys_of(g)}
    for key in own - {"sweep", "carbon", "cost"}:
        name = key.rpartition(".")[2]
        before = text.partition(f"\n{'  ' * key.count('.')}{name}:")[0]
        assert before != text, key
        assert before.splitlines()[-1].strip().startswith("#"), key


def _keys_of(group: str) -> set[str]:
    schema = get_type_hints(ExperimentConfig)[group]
    return {group} | {f"{group}.{key}" for key in _keys(schema)}


@pytest.mark.parametrize("group", GROUPS)
def test_a_base_file_has_the_schemas_own_values(group: str) -> None:
    schema = get_type_hints(ExperimentConfig)[group]
    base = OmegaConf.load(CONF / "base" / f"{group}.yaml")
    assert isinstance(base, DictConfig)
    del base["defaults"]
    assert OmegaConf.merge(OmegaConf.structured(schema), base) == OmegaConf.structured(schema)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_a_choice_says_only_what_differs(group: str, choice: str) -> None:
    file = OmegaConf.load(CONF / group / f"{choice}.yaml")
    base = OmegaConf.load(CONF / "base" / f"{group}.yaml")
    assert isinstance(file, DictConfig) and isinstance(base, DictConfig)
    assert file.defaults[0] == f"/base/{group}@_here_"
    named = {"name", "size"}  # said even where it is the default: it is what the file stands for
    raw = {key: file._get_node(key) for key in map(str, file) if key not in {"defaults", *named}}
    assert [key for key, node in raw.items() if node == base._get_node(key)] == []


def test_a_config_survives_the_way_to_a_child_process() -> None:
    experiment = to_experiment(composed("generation=sample", "batch=b8", "repeat=3"))
    experiment.evaluator.timeout_s = 5  # as a program may write it
    plain = to_plain(experiment)
    assert from_plain(plain) == experiment
    assert json.dumps(to_plain(from_plain(plain))) == json.dumps(plain)


def test_the_estimator_s_assumptions_are_no_part_of_what_a_run_is() -> None:
    from codejoule.experiment.identity import identity

    plain = identity(to_experiment(composed()), {})
    assumed = composed("gpu=h200", "suite.prompt_tokens=9")
    assert identity(to_experiment(assumed), {}) == plain


def _numbers(schema: type, prefix: str = "") -> list[str]:
    """Every key of `schema` and its groups whose value may be any number."""
    hints = get_type_hints(schema)
    found: list[str] = []
    for field in fields(schema):
        hint = hints[field.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            found += _numbers(hint, f"{prefix}{field.name}.")
        elif float in (hint, *get_args(hint)):
            found.append(f"{prefix}{field.name}")
    return found


def test_a_number_that_is_none_is_refused_under_every_key() -> None:
    config = composed()
    keys = [*_numbers(ExperimentConfig), "model.architecture.rope_theta"]
    assert "meter.cpu_watts_per_core" in keys and "gpu.idle_power_w" in keys and len(keys) > 15
    for key in keys:
        for value in ("inf", "-inf", "nan"):
            OmegaConf.update(config, key, float(value), force_add=True)
            with pytest.raises(ConfigError) as caught:
                to_experiment(config)
            assert str(caught.value) == f"{key}={value}: must be a finite number"
        OmegaConf.update(config, key, None if key == "model.architecture.rope_theta" else 1.0)


@pytest.mark.parametrize("value", [-1.0, 0.0])
def test_the_power_of_a_core_is_above_zero(value: float) -> None:
    config = composed()
    config.meter.cpu_watts_per_core = value
    with pytest.raises(ConfigError, match=rf"^meter\.cpu_watts_per_core={value}: must be above 0"):
        to_experiment(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("batch=b1,b4", "generation=sample", "generation.temperature=0.2,0.8", "repeat=1,2"),
        ("model=starter,qwen_7b", "quant=none,awq", "suite.stop=[a,b]", "model.name=x,y"),
        ("+experiment=smoke", "generation.seed=1,2"),
    ],
)
def test_jobs_that_are_composed_together_are_as_hydra_composes_each(
    overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = compose_sweep(overrides)

    class Each(SweepComposer):
        def __call__(self, job: Sequence[str]) -> DictConfig:
            return self._loader.load_sweep_config(self._sweep, list(job))

    monkeypatch.setattr("codejoule.config.compose.SweepComposer", Each)
    assert together == compose_sweep(overrides)
