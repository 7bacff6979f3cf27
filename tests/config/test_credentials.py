"""No password or token in what is written down."""

import pytest

from codejoule.config import ConfigError
from codejoule.config.credentials import refuse_credentials_in

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "override",
    [
        f"tracking.uri=http://me:{SECRET}@host:5000",
        f"+tracking.uri=https://me:{SECRET}/x@host",
        f"tracking.uri=https://{SECRET}@host",
        f"tracking.uri=postgresql+psycopg://me:{SECRET}@host/mlflow",
        f"tracking.uri=http://a,http://me:{SECRET}@b",
        f"tracking.uri='http://me:a,{SECRET}@host'",
        f"tracking.uri='http://me:{SECRET}@host'",
        f"engine.url=http://me:{SECRET}@127.0.0.1:8000/v1",
        f"engine.url=http://127.0.0.1:8000/v1?api_key={SECRET}",
        f"tracking.uri=http://host?a=b&access_token={SECRET}",
        f"+engine.api_key={SECRET}",
        f"++engine.apiKey={SECRET}",
        f"+model.token={SECRET}",
        f"hydra.job.env_set.HF_TOKEN={SECRET}",
        f"+hydra.job.env_set.MLFLOW_TRACKING_PASSWORD={SECRET}",
        f"model.revision=hf_{SECRET}ABCDEFGHIJKLMNOP",
        f"--tracking-uri=http://me:{SECRET}@host",
    ],
)
def test_a_credential_is_refused_and_not_repeated(override: str) -> None:
    with pytest.raises(ConfigError, match=r"MLFLOW_TRACKING_USERNAME.*HF_TOKEN") as refused:
        refuse_credentials_in(["model=starter", override])
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "override",
    [
        "tracking.uri=http://host:5000/base",
        "engine.url=http://127.0.0.1:8000/v1?model=a",
        "generation.max_new_tokens=20",
        "suite.prompt_tokens=660",
        "engine.warmup_tokens=4",
        "suite.path=/data/me@work/x.jsonl",
        "model.id=org/name",
        "hydra.job.env_set.HF_TOKEN=${oc.env:MY_TOKEN}",
        "+experiment=thesis_gptq",
        "-m",
    ],
)
def test_an_ordinary_setting_is_none(override: str) -> None:
    refuse_credentials_in([override])
