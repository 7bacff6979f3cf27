"""Limits that no clock and no kernel takes are refused where the configuration is read."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.config import ConfigError
from codejoule.config.schema import EngineConfig, EvaluatorConfig, SuiteConfig

NO_TIME_S = [math.inf, -math.inf, math.nan, 0.0, -1.0, 1e300, 86400.1]


@pytest.mark.parametrize("timeout_s", NO_TIME_S)
def test_a_time_limit_is_above_0_and_no_longer_than_a_day(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match=r"evaluator\.timeout_s=.*: must be above 0 \[s\] and at"):
        EvaluatorConfig(timeout_s=timeout_s)
    with pytest.raises(ConfigError, match=r"suite\.timeout_s=.*: must be above 0 \[s\] and at"):
        SuiteConfig(name="x", timeout_s=timeout_s)


@given(st.floats(min_value=1e-300, max_value=86400))
def test_any_time_up_to_a_day_is_one(timeout_s: float) -> None:
    assert EvaluatorConfig(timeout_s=timeout_s).timeout_s == timeout_s


@given(st.integers(max_value=0))
def test_workers_are_at_least_one(workers: int) -> None:
    with pytest.raises(ConfigError, match=r"evaluator\.workers=-?\d+: must be at least 1"):
        EvaluatorConfig(workers=workers)


@pytest.mark.parametrize("key", ["memory_bytes", "tmp_bytes", "output_bytes"])
@pytest.mark.parametrize("value", [-1, 0, 2**20 - 1, 2**50 + 1, 10**30])
def test_sizes_are_such_as_the_kernel_takes(key: str, value: int) -> None:
    with pytest.raises(ConfigError, match=rf"evaluator\.{key}=-?\d+: must be from 1 MiB"):
        EvaluatorConfig(**{key: value})


def test_an_engine_cannot_wait_forever() -> None:
    from codejoule.domain.engines import EngineName

    with pytest.raises(ConfigError, match=r"engine\.timeout_s=inf: must be above 0 and finite"):
        EngineConfig(name=EngineName.server, url="http://127.0.0.1:1/v1", timeout_s=math.inf)
