"""Limits follow the schema of the rows, whichever way they come in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from codejoule.config.compose import register_schemas
from codejoule.config.installation import conf_folder
from codejoule.config.schema import SuiteConfig, Variant
from codejoule.domain import Suite
from codejoule.suites import load_suite, load_suite_named, stops_for

DATA = Path(__file__).parent / "data"
LIMITS = {
    "bigcodebench": (1280, 240, "\ndef "),
    "humaneval": (512, 10, "\ndef "),
    "humaneval_plus": (768, 60, "\ndef "),
    "mbpp": (512, 10, '\n"""'),
    "mbpp_plus": (768, 120, '\n"""'),
}


def composed(name: str, *overrides: str) -> SuiteConfig:
    register_schemas()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = OmegaConf.to_object(compose(f"suite/{name}", list(overrides)).suite)
    assert isinstance(config, SuiteConfig)
    return config


def by_preset(schema: str, file: Path) -> Suite:
    return load_suite(composed(schema, f"suite.path={file}"))


def by_format_over_another_preset(schema: str, file: Path) -> Suite:
    other = "bigcodebench" if schema != "bigcodebench" else "mbpp"
    return load_suite(composed(other, f"suite.format={schema}", f"suite.path={file}"))


def by_format_over_the_bundled_suite(schema: str, file: Path) -> Suite:
    named = ["suite.name=mine", f"suite.format={schema}", f"suite.path={file}"]
    return load_suite(composed("starter", *named))


def by_file(schema: str, file: Path) -> Suite:
    return load_suite_named(str(file))


WAYS: list[Callable[[str, Path], Suite]] = [
    by_preset, by_format_over_another_preset, by_format_over_the_bundled_suite, by_file,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("schema", LIMITS)
def test_limits_and_stops_are_the_schemas(schema: str, way: Callable[[str, Path], Suite]) -> None:
    tokens, timeout_s, stop = LIMITS[schema]
    suite = way(schema, DATA / f"{schema}.jsonl")
    assert (suite.max_new_tokens, suite.timeout_s) == (tokens, timeout_s)
    assert stop in stops_for(suite, Variant.base)
    assert stop not in stops_for(suite, Variant.instruct)


@pytest.mark.parametrize("schema", LIMITS)
def test_a_preset_of_that_name_has_them(schema: str) -> None:
    config = composed(schema)
    assert (config.max_new_tokens, config.timeout_s) == LIMITS[schema][:2]
    assert config.format == schema


def test_the_bundled_suites_have_their_own() -> None:
    small, large = load_suite_named("starter"), load_suite_named("starter_large")
    assert (small.max_new_tokens, small.timeout_s) == (160, 10)
    assert (large.max_new_tokens, large.timeout_s) == (200, 10)
    assert small.stop == ("\nif __name__", "\nprint(")


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("timeout_s", "3", "timeout_s", 3.0),
        ("max_new_tokens", "7", "max_new_tokens", 7),
        ("stop", "[END]", "stop", ("END",)),
        ("stop", "[]", "stop", ()),
        ("stop_base", "[]", "stop_base", ()),
    ],
)
def test_what_is_set_goes_before(key: str, value: str, field: str, expected: Any) -> None:
    suite = load_suite(
        composed("humaneval", f"suite.path={DATA}/humaneval.jsonl", f"suite.{key}={value}")
    )
    assert getattr(suite, field) == expected


def test_what_is_in_force_is_what_a_run_records() -> None:
    config = composed("bigcodebench", "suite.format=mbpp")
    assert (config.max_new_tokens, config.timeout_s) == (512, 10)
    assert config.stop_base == ['\n"""', "\nassert "]
