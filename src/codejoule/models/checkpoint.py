"""Where a run's weights are, and what identifies them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from codejoule.common.progress import doing
from codejoule.config import ConfigError, installed_versions
from codejoule.config.own_model import check_place
from codejoule.config.schema import (
    ModelConfig,
    QuantConfig,
    QuantSource,
    Weights,
)
from codejoule.domain import METHODS, Architecture, Quantization, dtype_in_force
from codejoule.domain.quantization import LLAMA_CPP
from codejoule.models.adapter import Adapter, with_adapter
from codejoule.models.check import (
    BUNDLED_ROOT,
    check_model_config,
    published_checkpoint,
    refuse_making,
    refuse_quantized_experts,
)
from codejoule.models.declared import (
    declared_quantization,
    quantization_of,
    refuse_differences,
    with_group_size,
)
from codejoule.models.folder import MANIFEST, decoder_config, read_config, weight_files
from codejoule.models.gguf import describe, gguf_facts, reader_versions, unpack
from codejoule.models.hub import fetch
from codejoule.models.quantization.base import DeclaredQuantization

_NOT_READ = (
    ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx",
    ".md", ".png", ".jpg", ".svg", ".pdf", ".log",
)  # fmt: skip
"""Weights that are read by their index, weights in other formats, and documents."""
_PLAIN = QuantConfig(name="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Weights that have been found (or will be, once they are quantized here)."""

    weights: Weights
    """Their kind."""
    source: str
    """Where they come from, e.g. ``hub:ID@COMMIT`` or ``local:FOLDER``."""
    path: Path | None
    """Folder that `load_model` reads; None for random weights."""
    checksum: str
    """Identity of the weights: a SHA-256, the hub's commit, or seed and architecture."""
    quantization: str = "none"
    """``none`` or method, bits and group size, e.g. ``gptq-4bit-g128``."""
    stored_as: str | None = None
    """How a GGUF file stores the weights and what became of that; None for other weights."""
    base_path: Path | None = None
    """Folder of the unquantized weights; None unless they are quantized here."""
    needs_quantization: bool = False
    """Whether `quantize_checkpoint` must make `path` from `base_path` first."""
    adapter: Adapter | None = None
    """What tunes the weights, merged into them or to be run beside them."""


def locate_checkpoint(
    model: ModelConfig,
    quant: QuantConfig,
    *,
    cache_dir: Path,
    calibration_id: str = "",
    adapter: Path | None = None,
) -> Checkpoint:
    """Find the weights that `model` and `quant` name; imports torch for GGUF files alone.

    Weights on the hub are resolved to a commit and, where they are not in Hugging Face's cache
    yet, downloaded; a GGUF file is dequantized into a folder of `cache_dir`, once. Weights that
    must be quantized here get a folder there, too, whose name says what went in; `calibration_id`
    identifies the texts that they are calibrated with. Raises `ConfigError` for contradictions and
    `UserError` where weights cannot be had. With the folder of an `adapter` the weights are tuned:
    the unquantized ones, with which it was trained.
    """
    check_model_config(model, quant)
    # What is published or ships quantized has no adapter in it.
    own = quant if adapter is None else QuantConfig(name="none")
    if model.weights is Weights.random:
        found = _random(model, quant)
        return found if adapter is None else with_adapter(found, adapter, model, cache_dir)
    folder = None if model.weights is Weights.hub else _folder(model, own)
    if folder is None:
        found = _hub(model, own)
    elif folder.is_file():
        found = _gguf(folder, cache_dir.absolute())
    else:
        found = _local(model, folder)
    if adapter is not None:
        if quant.source is QuantSource.hub:
            raise ConfigError(
                f"quant.source=hub with model.adapter={model.adapter}: what is published is the "
                "model without it; use quant.source=auto, which quantizes here"
            )
        found = with_adapter(found, adapter, model, cache_dir)
    assert found.path is not None
    config = decoder_config(found.path)
    declared = _declared(config, quant, found.source)
    quant = with_group_size(quant, config)
    found = replace(found, quantization=quantization_label(quant))
    if declared is not None or not METHODS[quant.method.name].packed:
        return found
    refuse_making(quant, found.source)
    return _to_be_quantized(found, quant, cache_dir, calibration_id)


def locate_served(model: ModelConfig, quant: QuantConfig, *, cache_dir: Path) -> Checkpoint:
    """Find what tells of a model that a server has loaded: its config and its tokenizer, the
    checksum of what `model` names. Nothing is dequantized, weights on the hub are not downloaded,
    and no kind of model is refused. Raises `ConfigError` for a GGUF file that stores its weights
    otherwise than `quant` says, and `UserError` where the files cannot be had."""
    if model.weights is Weights.random:
        return _random(model, _PLAIN)
    if model.weights is Weights.hub:
        return _hub(model, _PLAIN, served=True)
    folder = _folder(model, _PLAIN)
    check_place(folder, f"model.path={folder}")
    if folder.is_file():
        return _served_gguf(folder, quant, cache_dir.absolute())
    return _local(model, folder)


def _local(model: ModelConfig, folder: Path) -> Checkpoint:
    place = folder if model.path else f"{model.name}/{folder.name}"
    return Checkpoint(
        weights=model.weights,
        source=f"{model.weights.name}:{place}",
        path=folder,
        checksum=folder_checksum(folder),
    )


def _declared(
    config: Mapping[str, Any], quant: QuantConfig, source: str
) -> DeclaredQuantization | None:
    """What a checkpoint with this ``config.json`` declares, where that is what `quant` says."""
    refuse_quantized_experts(config, quant)
    declared = declared_quantization(config)
    if declared is not None:
        remedy = "leave these quant.* keys as they are, or quantize here with quant.source=local"
        refuse_differences(declared, quant, where=source, remedy=remedy)
    return declared


def quantization_label(quant: QuantConfig) -> str:
    """``none`` or method, bits and group size, e.g. ``gptq-4bit-g128``."""
    if quant.bits is None:
        return "none"
    return f"{quant.method.name}-{quant.bits}bit-g{quant.group_size}"


def _random(model: ModelConfig, quant: QuantConfig) -> Checkpoint:
    text = json.dumps(model.architecture, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Checkpoint(
        weights=model.weights,
        source="random",
        path=None,
        checksum=f"random:{model.random_seed}:{digest[:32]}",
        quantization=quantization_label(with_group_size(quant, model.architecture)),
    )


def _folder(model: ModelConfig, quant: QuantConfig) -> Path:
    """The user's folder, or that of a bundled model."""
    if model.path is not None:
        return Path(model.path).expanduser().absolute()
    there = BUNDLED_ROOT / model.name / quant.name
    if quant.source is not QuantSource.local and there.is_dir():
        return there
    if quant.source is QuantSource.hub:
        raise ConfigError(
            f"quant.source=hub with quant={quant.name}: {model.name} ships without it; "
            "use quant.source=local to quantize here"
        )
    return BUNDLED_ROOT / model.name / "none"


def _gguf(file: Path, cache_dir: Path) -> Checkpoint:
    """A GGUF file, dequantized into a folder of `cache_dir` where that was never done."""
    facts = gguf_facts(file)
    return _of_gguf(file, facts.told, facts.dtype, unpack, cache_dir)


def _served_gguf(file: Path, quant: QuantConfig, cache_dir: Path) -> Checkpoint:
    """A GGUF file that a server computes with as it is."""
    facts = gguf_facts(file)
    packed = LLAMA_CPP in METHODS[quant.method.name].loaders
    if quant.bits != facts.bits or packed != (facts.bits is not None):
        own = "quant=none" if facts.bits is None else f"quant=gguf quant.bits={facts.bits}"
        raise ConfigError(
            f"quant={quant.name} ({quant.bits or 16} bits) with {file}: a server computes with its "
            f"weights as they are stored, and most are {facts.kind}; say so ({own})"
        )
    found = _of_gguf(file, f"GGUF {facts.kind}", "served", describe, cache_dir)
    return replace(found, checksum=f"gguf:{_checksum_of(file)}")


def _of_gguf(
    file: Path,
    told: str,
    made: str,
    write: Callable[[Path, str, Path], None],
    cache_dir: Path,
) -> Checkpoint:
    """What is `made` of a GGUF file, written to a folder of `cache_dir` unless it is there."""
    checksum = _checksum_of(file)
    what = json.dumps([checksum, made, reader_versions()], sort_keys=True)
    key = hashlib.sha256(what.encode()).hexdigest()
    folder = cache_dir / f"gguf-{key[:32]}"
    if not (folder / MANIFEST).exists():
        write(file, checksum, folder)
    return Checkpoint(
        weights=Weights.local,
        source=f"local:{file} ({told})",
        path=folder,
        checksum=f"gguf:{key}",
        stored_as=told,
    )


def stored_modules(checkpoint: Checkpoint) -> list[dict[str, Any]] | None:
    """The tensors of a GGUF file with the type of each; None for other weights."""
    folder = checkpoint.base_path or checkpoint.path
    if checkpoint.stored_as is None or folder is None:
        return None
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    found: list[dict[str, Any]] | None = manifest.get("modules")
    return found


def _hub(model: ModelConfig, quant: QuantConfig, *, served: bool = False) -> Checkpoint:
    assert model.id is not None
    repository, revision = model.id, model.revision
    if (published := published_checkpoint(model, quant)) is not None:
        # The base model's revision says nothing of another repository's.
        repository, _, pinned = published.partition("@")
        revision = pinned or "main"
    same = "" if quant.bits is None else f" quant={quant.name}"
    remedy = f"use a copy on this machine (model=/path/to/folder{same})"
    if model.architecture:
        remedy += (
            ", or random weights of the same architecture, whose energy and speed are real "
            "(model.weights=random)"
        )
    folder, commit = fetch(
        repository,
        revision,
        remedy=remedy,
        weights=not served,
        # What would not be run is not downloaded.
        check=lambda folder: (
            None if served else _declared(decoder_config(folder), quant, f"hub:{repository}")
        ),
    )
    return Checkpoint(
        weights=model.weights,
        source=f"hub:{repository}@{commit}",
        path=folder,
        checksum=f"{repository}@{commit}",
    )


def _to_be_quantized(
    base: Checkpoint, quant: QuantConfig, cache_dir: Path, calibration_id: str
) -> Checkpoint:
    """The place in `cache_dir` of what `quant` makes of `base`."""
    what = {
        "base": base.checksum,
        "method": quant.method.name,
        "bits": quant.bits,
        "group_size": quant.group_size,
        "sym": quant.sym,
        "desc_act": quant.desc_act,
        "calibration": [quant.calibration.samples, quant.calibration.seed, calibration_id],
        "calibration_file": _text_checksum(quant.calibration.path),
        **installed_versions(METHODS[quant.method.name].libraries),
    }
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    folder = cache_dir.absolute() / f"{quantization_label(quant)}-{key[:32]}"
    return replace(
        base,
        source=f"{base.source}, quantized here",
        path=folder,
        checksum=f"quantized:{key}",
        base_path=base.path,
        needs_quantization=not (folder / MANIFEST).exists(),
    )


def _text_checksum(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"quant.calibration.path={path}: cannot be read ({error.strerror}); name a text "
            "file, or null for prompts of the suite that are not evaluated"
        ) from error


def folder_checksum(folder: Path) -> str:
    """SHA-256 (hex) over the names and contents of a folder's weights and of all that may be read
    beside them: config, generation config, the tokenizer's files, chat templates.

    Raises `ConfigError` where weights are missing.
    """
    read_config(folder)
    weights = weight_files(folder)
    if not weights:
        raise ConfigError(
            f"{folder}: holds no complete set of *.safetensors; save the model with "
            "transformers' save_pretrained, or download all of its shards"
        )
    # Which files a tokenizer has is its own affair: what is known not to be read is left out.
    beside = {
        file
        for file in (*folder.iterdir(), *folder.rglob("*.jinja"))
        if file.is_file() and not file.name.startswith(".") and file.suffix not in _NOT_READ
    }
    doing(f"reading {folder.name or folder} to compute its checksum")
    digest = hashlib.sha256()
    for file in sorted({*weights, *beside}):
        digest.update(f"{file.relative_to(folder)}:{_checksum_of(file)}\n".encode())
    return digest.hexdigest()


def _checksum_of(file: Path) -> str:
    stat = file.stat()
    return _file_checksum(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_checksum(file: Path, size: int, mtime_ns: int) -> str:
    """Contents' SHA-256; a file of the same size and time is not read twice."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_model(
    checkpoint: Checkpoint | None, model: ModelConfig, quant: QuantConfig, *, device: str
) -> tuple[Architecture, Quantization, str]:
    """What `load_model` will load on `device`, and in which dtype, from its files; no torch.

    Without a `checkpoint` the architecture on file (``model.architecture``) says it. Raises
    `ValueError` for a family that is not known.
    """
    config = config_of(checkpoint, model)
    architecture = Architecture.from_config(config)
    dtype = dtype_in_force(
        model.dtype.name, quant.method.name, device=device, own=architecture.dtype
    )
    return architecture, quantization_of(quant, config), dtype


def config_of(checkpoint: Checkpoint | None, model: ModelConfig) -> Mapping[str, Any]:
    """The ``config.json`` of these weights; of random ones, and without a `checkpoint`, the
    architecture on file."""
    if checkpoint is None or checkpoint.path is None:
        return model.architecture
    there = (checkpoint.path / "config.json").exists()
    folder = checkpoint.path if there else checkpoint.base_path
    assert folder is not None
    return read_config(folder)
