"""What a server says that it serves."""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from codejoule.config import UserError
from codejoule.config.schema import EngineConfig
from codejoule.generation.engine import ServedModel

if TYPE_CHECKING:
    import httpx

_PATIENCE_S = 10.0


def identify(config: EngineConfig) -> ServedModel:
    """Ask the server at ``engine.url`` what it serves. Raises `UserError` where none answers, and
    where ``engine.served_model`` must choose."""
    import httpx

    assert config.url is not None
    url = config.url.rstrip("/")
    try:
        answer = httpx.get(f"{url}/models", timeout=_PATIENCE_S)
    except httpx.HTTPError as error:
        raise UserError(
            f"engine.url={config.url}: no server answers at {url}/models ({type(error).__name__}: "
            f"{error}); start it first (vllm serve, transformers serve, llama-server ...) and give "
            "the address of its API, which mostly ends with /v1"
        ) from error
    listed = _listed(answer)
    if config.served_model is None and len(listed) != 1:
        raise UserError(
            f"engine.served_model=null: {url}/models lists "
            f"{', '.join(sorted(listed)) or 'no models'} (status {answer.status_code}); name the "
            "one that the server at this address serves"
        )
    return ServedModel(id=config.served_model or listed[0], software=_software(url, answer))


def _listed(answer: "httpx.Response") -> list[str]:
    """Models that the answer names: none where it is an error, as that of ``transformers serve``
    without a cache of the hub."""
    try:
        return [str(model["id"]) for model in answer.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return []


def _software(url: str, answer: "httpx.Response") -> str:
    """vLLM and SGLang have an address that tells their version, llama.cpp a header."""
    import httpx

    parts = urlsplit(url)
    try:
        version = httpx.get(f"{parts.scheme}://{parts.netloc}/version", timeout=_PATIENCE_S)
        if version.status_code == httpx.codes.OK:
            return f"version {version.json()['version']}"
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        pass
    return str(answer.headers.get("server", "unknown"))
