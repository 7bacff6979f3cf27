"""GGUF files: transformers reads them and dequantizes their weights, here once, into a folder that
is a checkpoint like any other."""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.common.progress import doing
from codejoule.config import UserError, first_line, full_disk, require_room
from codejoule.models.compat import CPU_ALLOCATOR, dequantizing, quiet_libraries
from codejoule.models.folder import MANIFEST, move_whole
from codejoule.models.proof import prove_complete
from codejoule.sandbox.host_memory import HostMemory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_PLAIN = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_DEQUANTIZED = "float16"
"""What quantized blocks become: their scales are float16, so no number leaves its range."""
_AT_ONCE = 2**24
"""Numbers that are compared at once: as float64 they take 128 MiB."""
_MORE_MEMORY = (
    "end what else uses the memory, read the file once on a larger machine (with the same "
    "quant.cache_dir), or give a smaller model"
)
_TOLERANCE = 1e-4
"""Of sums over a whole matrix: what rounding to sixteen bits does to them is far below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFacts:
    """What a GGUF file says of itself."""

    kind: str
    """How most of its weights are stored, as its makers call it, e.g. ``Q4_K_M`` or ``Q8_0``."""
    modules: Sequence[Mapping[str, Any]]
    """Its tensors: name, type (e.g. ``Q4_1``) and count of those alike in all but numbers."""
    weights: int
    """Numbers in all tensors."""
    largest: int
    """Numbers in the largest tensor."""

    @property
    def bits(self) -> int | None:
        """Bits that most of its weights have, scales left out; None for numbers as they are."""
        return None if self.kind in _PLAIN else int(re.findall(r"\d", self.kind)[0])

    @property
    def dtype(self) -> str:
        """What its weights are written in once they are dequantized."""
        return _PLAIN.get(self.kind, _DEQUANTIZED)

    @property
    def told(self) -> str:
        """What it stores and what became of that, for people."""
        plain = self.kind in _PLAIN
        return f"GGUF {self.kind}" + ("" if plain else f", dequantized to {self.dtype}")


def gguf_facts(file: Path) -> GgufFacts:
    """What `file` says of itself; raises `UserError` for one that is not whole or not readable, and
    for a part of one."""
    stat = file.stat()
    return _facts(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _facts(file: Path, size: int, mtime_ns: int) -> GgufFacts:
    reader = _reader(file)
    split = reader.get_field("split.count")
    if split is not None and split.contents() > 1:
        raise UserError(
            f"{file}: one of {split.contents()} parts of a model; join them with llama.cpp's "
            "llama-gguf-split --merge, and give the file that it makes"
        )
    alike, weights = Counter[tuple[str, str]](), Counter[str]()
    for tensor in reader.tensors:
        alike[_without_numbers(tensor.name), tensor.tensor_type.name] += 1
        weights[tensor.tensor_type.name] += int(tensor.n_elements)
    if not alike:
        raise UserError(f"{file}: holds no weights (a vocabulary alone?); give a model's file")
    return GgufFacts(
        kind=_kind(reader, weights),
        modules=[{"name": n, "type": t, "count": count} for (n, t), count in alike.items()],
        weights=sum(weights.values()),
        largest=max(int(tensor.n_elements) for tensor in reader.tensors),
    )


def _kind(reader: Any, weights: Counter[str]) -> str:
    """The file's own word where it names the type of most weights, or a mixture of such."""
    from gguf import LlamaFileType

    most = weights.most_common(1)[0][0]
    named = reader.get_field("general.file_type")
    try:
        word = LlamaFileType(int(named.contents())).name if named is not None else ""
    except ValueError:
        return most
    word = word.removeprefix("MOSTLY_").removeprefix("ALL_")
    return word if word.startswith(most) else most


def _reader(file: Path) -> Any:
    from gguf import GGUFReader

    try:
        return GGUFReader(file)
    except Exception as error:
        # Its reader trusts what the file says of itself, and fails in many ways where it is wrong.
        raise UserError(
            f"{file}: cannot be read as GGUF ({type(error).__name__}: {first_line(error)}); "
            "download it again"
        ) from error


def gguf_config(file: Path) -> dict[str, Any]:
    """The ``config.json`` that transformers makes of what `file` says; `UserError` where it cannot.
    Reading a vocabulary takes seconds."""
    stat = file.stat()
    return dict(_config(file, stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=8)
def _config(file: Path, size: int, mtime_ns: int) -> dict[str, Any]:
    from transformers import AutoConfig

    facts = gguf_facts(file)
    with quiet_libraries(), _refusals(file):
        config = AutoConfig.from_pretrained(
            file.parent, gguf_file=file.name, local_files_only=True, trust_remote_code=False
        )
    return {**config.to_dict(), "dtype": facts.dtype}


def unpack(file: Path, checksum: str, folder: Path) -> None:
    """Write what `file` holds to `folder`, dequantized: a checkpoint with weights, config and
    tokenizer, and a manifest of what went in (`checksum` is the file's). It appears whole or not at
    all. Every tensor of the model must come from the file, and the numbers of some of each kind are
    compared with what gguf's own reader makes of them. Raises `UserError`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    facts = gguf_facts(file)
    dtype: torch.dtype = getattr(torch, facts.dtype)
    require_room(
        folder.parent,
        facts.weights * dtype.itemsize,
        what=f"{file.name}: its weights as {facts.dtype} need",
        remedy="make room, or name another folder with quant.cache_dir",
    )
    _require_memory(file, facts, dtype.itemsize)
    doing(f"dequantizing {file.name}", f"{facts.kind} to {facts.dtype}")
    place = {"gguf_file": file.name, "local_files_only": True}
    with _made_whole(folder) as work:
        with quiet_libraries(), _refusals(file):
            model, info = AutoModelForCausalLM.from_pretrained(
                file.parent,
                dtype=dtype,
                output_loading_info=True,
                trust_remote_code=False,
                **dequantizing(),
                **place,
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, trust_remote_code=False, **place)
        prove_complete(info, f"local:{file}")
        prove_numbers(file, model)
        # It describes the file, and what is written here is not quantized any more.
        model.config.__dict__.pop("quantization_config", None)
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
        _write_manifest(work, checksum, facts, stored=facts.told, dtype=facts.dtype)


def describe(file: Path, checksum: str, folder: Path) -> None:
    """Write what tells of the model in `file` to `folder`: config, tokenizer and manifest, as
    `unpack` does, without weights."""
    from transformers import AutoConfig, AutoTokenizer

    doing(f"reading {file.name}'s tokenizer")
    place = {"gguf_file": file.name, "local_files_only": True}
    with _made_whole(folder) as work, quiet_libraries(), _refusals(file):
        for kind in (AutoConfig, AutoTokenizer):
            found = kind.from_pretrained(file.parent, trust_remote_code=False, **place)
            found.save_pretrained(work)
        _write_manifest(work, checksum, gguf_facts(file))


@contextmanager
def _made_whole(folder: Path) -> Iterator[Path]:
    """A folder to write to, which then becomes `folder`, whole or not at all."""
    work = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        yield work
        move_whole(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_manifest(folder: Path, checksum: str, facts: GgufFacts, **made: str) -> None:
    what = {"gguf": checksum, **made, "modules": facts.modules, **reader_versions()}
    (folder / MANIFEST).write_text(json.dumps(what, indent=2) + "\n", encoding="utf-8")


def _require_memory(file: Path, facts: GgufFacts, itemsize: int) -> None:
    """Refuse a machine that cannot hold the weights, and the largest tensor as it is dequantized:
    in float32, and copied once."""
    needed_bytes = facts.weights * itemsize + facts.largest * 8
    free_bytes = max(0, HostMemory().available_bytes())
    if needed_bytes > free_bytes:
        raise UserError(
            f"{file.name}: dequantizing it to {facts.dtype} takes at least "
            f"{needed_bytes / 2**30:.1f} GiB of memory, but {free_bytes / 2**30:.1f} GiB are free "
            f"on the host; {_MORE_MEMORY}"
        )


def reader_versions() -> dict[str, str]:
    """Versions of what reads and dequantizes."""
    return {name: version(name) for name in ("gguf", "transformers")}


@contextmanager
def _refusals(file: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if full_disk(error) is not None:
            raise
        if isinstance(error, MemoryError) or CPU_ALLOCATOR in str(error):
            raise UserError(
                f"{file}: out of memory while it is read ({first_line(error)}); {_MORE_MEMORY}"
            ) from error
        # Its parsers raise what a value that they do not expect leads to.
        raise UserError(
            f"{file}: transformers {version('transformers')} cannot read this GGUF "
            f"({type(error).__name__}: {first_line(error)}); give the model's own checkpoint (a "
            "folder, or org/name), which codejoule quantizes itself"
        ) from error


def prove_numbers(file: Path, model: "PreTrainedModel") -> None:
    """Refuse a model in which a matrix of the file is not found again. Rows may have changed their
    order, as they do for rotary positions, so sums over whole matrices are compared."""
    import torch
    from gguf import dequantize

    there: dict[int, list[torch.Tensor]] = {}
    for parameter in model.state_dict().values():
        numbers = parameter.detach().reshape(-1)
        there.setdefault(parameter.numel(), []).append(_sums(numbers.split(_AT_ONCE)))
    for tensor in _some_of_each_kind(_reader(file).tensors):
        # The rows of a matrix are whole blocks.
        rows = max(1, _AT_ONCE // int(tensor.shape[0]))
        meant = _sums(
            torch.from_numpy(dequantize(tensor.data[start : start + rows], tensor.tensor_type))
            for start in range(0, len(tensor.data), rows)
        )
        found = there.get(int(tensor.n_elements), [])
        if not any(torch.allclose(each, meant, rtol=_TOLERANCE, atol=0) for each in found):
            raise UserError(
                f"{file}: transformers {version('transformers')} makes other numbers of the tensor "
                f"{tensor.name} than gguf {version('gguf')}; give the model's own checkpoint"
            )


def _some_of_each_kind(tensors: Iterable[Any]) -> list[Any]:
    """The first, the middle and the last matrix of those whose names differ in numbers alone."""
    kinds: dict[str, list[Any]] = {}
    for tensor in tensors:
        if len(tensor.shape) == 2:
            kinds.setdefault(_without_numbers(tensor.name), []).append(tensor)
    places = [sorted({0, len(alike) // 2, len(alike) - 1}) for alike in kinds.values()]
    return [alike[i] for alike, some in zip(kinds.values(), places, strict=True) for i in some]


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "*", name)


def _sums(parts: "Iterable[torch.Tensor]") -> "torch.Tensor":
    """Of the magnitudes and of the squares in all parts."""
    import torch

    sums = torch.zeros(2, dtype=torch.float64)
    for part in parts:
        numbers = part.double()
        sums += torch.stack([numbers.abs().sum(), numbers.square().sum()])
    return sums


def gguf_has_chat_template(file: Path) -> bool:
    """Whether the file's tokenizer puts messages into a chat, as instruct models' do."""
    return _reader(file).get_field("tokenizer.chat_template") is not None
