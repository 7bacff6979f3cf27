"""Quantizing a checkpoint here, once, into a folder whose name says what went in."""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path

from codejoule.common.progress import doing
from codejoule.config import UserError, first_line, require_room
from codejoule.config.schema import QuantConfig
from codejoule.models.checkpoint import Checkpoint
from codejoule.models.compat import quiet_libraries
from codejoule.models.declared import with_group_size
from codejoule.models.folder import KEPT_FILES, MANIFEST, move_whole, read_config, weight_files
from codejoule.models.quantization import quantizer_of
from codejoule.models.tokenizer import tokenizer_in

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def quantize_checkpoint(
    checkpoint: Checkpoint,
    quant: QuantConfig,
    *,
    calibration_texts: Sequence[str],
    device: str,
) -> Path:
    """Make ``checkpoint.path`` from its base, through gptqmodel; returns that folder.

    Nothing is done where the folder is there already. It appears whole or not at all, with
    a manifest of what went in; gptqmodel's output goes to a log beside it. Raises
    `ConfigError` for a group size that the layers do not divide by and `UserError` where
    gptqmodel cannot quantize the model or the disk is full.
    """
    assert checkpoint.path is not None
    if (checkpoint.path / MANIFEST).exists():
        return checkpoint.path
    assert checkpoint.base_path is not None, "this checkpoint needs no quantization"
    quant = with_group_size(quant, read_config(checkpoint.base_path))
    tokenizer_in(checkpoint.base_path)  # what gptqmodel cannot read, or makes an empty one of
    target = checkpoint.path
    assert quant.bits is not None
    whole = sum(file.stat().st_size for file in weight_files(checkpoint.base_path))
    require_room(
        target.parent,
        whole * quant.bits // 32,
        what=f"quant={quant.name}: its checkpoint needs at least",
        remedy="make room, or name another folder with quant.cache_dir",
    )
    work = target.with_name(f".{target.name}.{os.getpid()}")
    log = target.with_name(f"{target.name}.log")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    began = time.monotonic()
    doing(f"quantizing to {quant.name}", f"{len(calibration_texts)} calibration texts")
    try:
        _quantize(checkpoint.base_path, quant, calibration_texts, device, work, log)
        # gptqmodel 7.6 writes its own view of these; the base model's are the truth.
        for file in (file for pattern in KEPT_FILES for file in checkpoint.base_path.glob(pattern)):
            if file.is_file():
                shutil.copyfile(file, work / file.name)
        texts = json.dumps(list(calibration_texts))
        manifest = {
            "checksum": checkpoint.checksum,
            "source": checkpoint.source,
            "quantization": checkpoint.quantization,
            "sym": quant.sym,
            "desc_act": quant.desc_act,
            "calibration_texts": len(calibration_texts),
            "calibration_sha256": hashlib.sha256(texts.encode()).hexdigest(),
            "gptqmodel": version("gptqmodel"),
            "device": device,
            "quantize_s": round(time.monotonic() - began, 3),
        }
        (work / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        move_whole(work, target)
    except Exception as error:
        if (full := _not_writable(error)) is not None:
            raise UserError(
                f"quant={quant.name}: the checkpoint cannot be written to {target.parent} "
                f"({full.strerror}); make room, or name another folder with quant.cache_dir"
            ) from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _quantize(
    base: Path, quant: QuantConfig, texts: Sequence[str], device: str, work: Path, log: Path
) -> None:
    import torch

    quantizer = quantizer_of(quant.method.name)
    with (
        log.open("w", encoding="utf-8") as stream,
        redirect_stdout(stream),
        redirect_stderr(stream),
        quiet_libraries(),
    ):
        try:
            quantizer.quantize(base, quant, texts, device=device, folder=work)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if _not_writable(error) is not None:
                raise
            raise UserError(
                f"quant={quant.name}: gptqmodel cannot quantize {base} "
                f"({type(error).__name__}: {first_line(error)}); its output is in {log}; try "
                "another quant.group_size or method, or a published checkpoint (quant.source=hub)"
            ) from error


def _not_writable(error: BaseException) -> OSError | None:
    """What the system said of a file that could not be written, behind `error`."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
