"""Adapters (LoRA): found, proven to be of these weights, and merged into them or run beside."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.common.progress import doing
from codejoule.config import ConfigError, UserError, first_line, installed_versions, require_room
from codejoule.config.extras import require_choice
from codejoule.config.schema import ModelConfig
from codejoule.models.compat import quiet_libraries
from codejoule.models.folder import KEPT_FILES, MANIFEST, move_whole, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from codejoule.models.checkpoint import Checkpoint

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The files that peft saves."""
PROVENANCE = "codejoule_adapter.json"
"""What an adapter that was trained here says of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter that has been found."""

    folder: Path
    """Where it lies."""
    checksum: str
    """SHA-256 over its config and its weights."""
    base: str | None
    """Checksum of the weights that it was trained with; None where it says none."""
    base_name: str | None
    """Name of the model that it was trained with, as far as it says so."""
    merged: bool
    """Whether it is merged into the weights."""

    trained: Mapping[str, Any]
    """What it says of its training; empty for one that was trained elsewhere."""

    def to_json(self) -> dict[str, Any]:
        """What is recorded of it."""
        told = {k: v for k, v in self.trained.items() if not k.endswith("_hashes")}
        return {
            "checksum": self.checksum,
            "base": self.base,
            "base_name": self.base_name,
            "merged": self.merged,
            "trained": told,
        }


def find_adapter(folder: Path, model: ModelConfig) -> Adapter:
    """The adapter in `folder`. Raises `ConfigError` for one that is none, or no LoRA."""
    setting = f"model.adapter={model.adapter}"
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"{setting}: not an adapter: {folder} has no {' and no '.join(missing)}; name the "
            "folder that peft's save_pretrained has written, or the artifact of a run with "
            "stage=finetune (runs:/RUN-ID/adapter)"
        )
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA":
        raise ConfigError(
            f"{setting}: an adapter of the kind {config.get('peft_type')}; only LORA is read"
        )
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        digest.update((folder / name).read_bytes())
    own = _provenance(folder)
    return Adapter(
        folder=folder,
        checksum=digest.hexdigest(),
        base=own.get("base"),
        base_name=own.get("base_name") or config.get("base_model_name_or_path"),
        merged=model.merge_adapter,
        trained=own,
    )


def with_adapter(
    base: "Checkpoint", folder: Path, model: ModelConfig, cache_dir: Path
) -> "Checkpoint":
    """`base`, tuned: with the adapter in `folder` beside it, or merged into it in a folder of
    `cache_dir`, where that is done once. Raises `UserError` for an adapter of other weights."""
    adapter = find_adapter(folder, model)
    _prove_base(adapter, base, model)
    if not adapter.merged:
        own = f"{base.checksum}+adapter:{adapter.checksum}"
        return replace(base, checksum=own, adapter=adapter)
    what = [base.checksum, adapter.checksum, installed_versions(("peft", "transformers"))]
    text = json.dumps(what, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()
    target = cache_dir.absolute() / f"merged-{key[:32]}"
    if not (target / MANIFEST).exists():
        _merge(base, adapter, target)
    return replace(
        base,
        source=f"{base.source} with a merged adapter",
        path=target,
        checksum=f"merged:{key}",
        adapter=adapter,
    )


def run_beside(net: "PreTrainedModel", adapter: Adapter) -> None:
    """Put the adapter's matrices beside the layers of `net`, in its dtype. Raises `UserError` where
    they do not all find their place."""
    _adapted(net, adapter, keep_dtype=True)


def _adapted(net: "PreTrainedModel", adapter: Adapter, *, keep_dtype: bool) -> Any:
    """peft's model around `net`, which has the matrices in it from then on."""
    require_choice("model.adapter")
    remedy = "name the model that it was trained with"
    with quiet_libraries():
        from peft import LoraConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict

        try:
            config = LoraConfig.from_pretrained(str(adapter.folder), inference_mode=True)
            tuned = get_peft_model(net, config, autocast_adapter_dtype=not keep_dtype)
            weights = load_peft_weights(str(adapter.folder), device="cpu")
            found = set_peft_model_state_dict(tuned, weights)
        except (ValueError, RuntimeError, KeyError, TypeError) as error:
            raise UserError(
                f"{adapter.folder}: the adapter does not fit this model ({first_line(error)}); "
                f"{remedy}"
            ) from error
    lost = [*found.unexpected_keys, *(key for key in found.missing_keys if "lora_" in key)]
    if lost:
        raise UserError(
            f"{adapter.folder}: {len(lost)} matrices of the adapter do not fit this model "
            f"({', '.join(lost[:3])}); {remedy}"
        )
    return tuned


def _merge(base: "Checkpoint", adapter: Adapter, target: Path) -> None:
    """Write `base` with the adapter merged into it to `target`, whole or not at all. Each sum is
    made in float32 and rounded to the dtype in which the base is stored."""
    assert base.path is not None
    require_room(
        target.parent,
        sum(file.stat().st_size for file in weight_files(base.path)),
        what="model.adapter: the merged weights need",
        remedy="make room, name another folder with quant.cache_dir, or use "
        "model.merge_adapter=false",
    )
    doing("merging the adapter into the weights")
    work = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with quiet_libraries():
            from transformers import AutoModelForCausalLM

            net = AutoModelForCausalLM.from_pretrained(
                base.path, dtype="auto", local_files_only=True, trust_remote_code=False
            )
            _adapted(net, adapter, keep_dtype=False).merge_and_unload().save_pretrained(work)
        for file in (file for pattern in KEPT_FILES for file in base.path.glob(pattern)):
            if file.is_file():
                shutil.copyfile(file, work / file.name)
        manifest = {"base": base.checksum, "source": base.source, "adapter": adapter.to_json()}
        (work / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        move_whole(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _prove_base(adapter: Adapter, base: "Checkpoint", model: ModelConfig) -> None:
    """Refuse an adapter that was trained with other weights; one of another's making names a model,
    and says nothing of its weights."""
    if adapter.base is not None:
        if adapter.base == base.checksum:
            return
        said, here = f"{adapter.base_name} ({adapter.base})", f"{base.source} ({base.checksum})"
    elif adapter.base_name:
        names = {str(base.path or base.source), *filter(None, (model.id, model.path, model.name))}
        if adapter.base_name.rstrip("/").rpartition("/")[2] in {
            name.rstrip("/").rpartition("/")[2] for name in names
        }:
            return
        said, here = adapter.base_name, base.source
    else:
        return
    raise UserError(
        f"model.adapter={model.adapter}: the adapter was trained with {said}, and model="
        f"{model.name} is {here}: with other weights it would be another model; choose the model "
        "that it was trained with"
    )


def _provenance(folder: Path) -> dict[str, Any]:
    file = folder / PROVENANCE
    if not file.is_file():
        return {}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
