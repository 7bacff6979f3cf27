"""What `codejoule.models` uses of libraries beyond their documented interfaces.

One function for each such thing, and nothing else of the package touches it. `HOLDS_FOR` says for
which versions that has been seen to work; tests/models/test_compat.py fails by name where a thing
is gone.
"""

import io
import logging
import os
import pickle
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache, partial
from importlib import import_module
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear

HOLDS_FOR = {
    "gptqmodel": ">=7.6,<7.7",
    "transformers": ">=5.17,<5.24",
    "torch": ">=2.11,<2.14",
    "bitsandbytes": ">=0.49,<0.51",
}
"""Versions of each library for which this module's functions hold."""

PRIVATE = (
    ("gptqmodel", "gptqmodel.utils.importer:hf_select_quant_linear_v2"),
    ("gptqmodel", "gptqmodel.utils.model:hf_convert_gptq_v1_to_v2_format"),
    ("gptqmodel", "gptqmodel.utils.model:hf_gptqmodel_post_init"),
    ("gptqmodel", "gptqmodel.nn_modules.qlinear:BaseQuantLinear.post_init"),
    ("gptqmodel", "gptqmodel.looper.module_looper:ModuleLooper._emit_layer_complete"),
    ("gptqmodel", "gptqmodel.utils.cpp:_CompileProgressDisplay"),
    ("gptqmodel", "gptqmodel.utils.cpp:default_torch_ops_build_root"),
    ("gptqmodel", "gptqmodel.utils.threadx:_DeviceWorker._abort_process"),
    ("gptqmodel", "gptqmodel.utils.threadx:_DeviceWorker._run_warmup"),
    ("transformers", "transformers:PreTrainedModel._skip_keys_device_placement"),
    ("transformers", "transformers:PreTrainedModel._keep_in_fp32_modules"),
    ("transformers", "transformers:PreTrainedModel._keep_in_fp32_modules_strict"),
    ("transformers", "transformers:PretrainedConfig._attn_implementation"),
    ("torch", "torch.utils._python_dispatch:is_traceable_wrapper_subclass"),
    ("bitsandbytes", "bitsandbytes.nn:Params4bit"),
    ("bitsandbytes", "bitsandbytes.nn:Int8Params"),
)
"""Library and place of each thing."""

CPU_ALLOCATOR = "DefaultCPUAllocator: can't allocate memory"
"""In PyTorch's error where the host has no room."""
_CHATTY = ("torchao", "torch.utils._pytree", "optimum", "tokenicer", "accelerate")
_CUDA_QUESTIONS = (
    ("torch.cuda", "is_available"),
    ("torch.cuda", "device_count"),
    ("torch.cuda", "get_device_capability"),
    ("torch.utils._triton", "has_triton"),
)
_SET_BY_GPTQMODEL = ("PYTORCH_ALLOC_CONF", "CUDA_DEVICE_ORDER")


def import_gptqmodel() -> None:
    """Import it, and undo the settings of PyTorch's allocator and CUDA's order of GPUs that it
    then makes: an unquantized baseline would run without them."""
    before = {name: os.environ.get(name) for name in _SET_BY_GPTQMODEL}
    quiet_gptqmodel()
    import gptqmodel

    assert gptqmodel.__name__
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)


def quiet_gptqmodel() -> None:
    """Let gptqmodel report errors only. It prints through a logger of its own, a banner at import
    included; the logger itself begins with an empty line, and starts threads."""
    with redirect_stdout(io.StringIO()):
        import_module("logbar").LogBar.shared().setLevel("ERROR")


@contextmanager
def builds_told(tell: Callable[[str, Path, float | None], None]) -> Iterator[None]:
    """Before gptqmodel compiles an extension inside, call `tell` with its title for that, with the
    folder below which builds are kept and with the time that it expects [s]. What it shows itself
    goes through the logger that is silent here."""
    from gptqmodel.utils import cpp

    display: Any = cpp._CompileProgressDisplay

    class Told(display):  # type: ignore[misc]
        def __init__(self, *, title: str, baseline_seconds: float | None, **rest: Any) -> None:
            tell(title.rstrip("."), cpp.default_torch_ops_build_root(""), baseline_seconds)
            super().__init__(title=title, baseline_seconds=baseline_seconds, **rest)

    cpp._CompileProgressDisplay = Told
    try:
        yield
    finally:
        cpp._CompileProgressDisplay = display


def tell_layers(model: Any, tell: Callable[[int], None]) -> None:
    """While gptqmodel quantizes `model`, call `tell` with the number of layers that are done."""

    def told(*, layer_idx: int, submodule_finalized: bool) -> None:
        if not submodule_finalized:  # it calls again when a worker has packed the layer
            tell(layer_idx + 1)

    model.layer_callback = told


def kernel_class(method: str, *, backend: str, **options: Any) -> "type[BaseQuantLinear]":
    """The class that gptqmodel's loader for transformers would take."""
    from gptqmodel.quantization import METHOD
    from gptqmodel.utils.importer import hf_select_quant_linear_v2

    chosen: type[BaseQuantLinear] = hf_select_quant_linear_v2(
        quant_method=METHOD(method), backend=backend, pack=False, **options
    )
    return chosen


def zero_points_as_they_are(model: "torch.nn.Module", bits: int, kernel: type[Any]) -> None:
    """Turn GPTQ's zero points less one, as files have them, into what its kernels take."""
    from gptqmodel.utils.model import hf_convert_gptq_v1_to_v2_format

    hf_convert_gptq_v1_to_v2_format(model, bits, kernel, "gptq", None)


def finish_kernels(model: "torch.nn.Module", *, desc_act: bool) -> None:
    """Let each packed layer of gptqmodel lay its weights out for its kernel."""
    from gptqmodel.utils.model import hf_gptqmodel_post_init

    hf_gptqmodel_post_init(model, use_act_order=desc_act)


def is_packed(module: Any) -> bool:
    """Whether a module is a packed layer of gptqmodel.

    By its class' name, so that an unquantized model needs no import of gptqmodel (3 s).
    """
    return any(kind.__name__ == "BaseQuantLinear" for kind in type(module).__mro__)


def kept_on_device(model: Any) -> Any:
    """Arguments of a model's forward that follow no activations from GPU to GPU."""
    return model._skip_keys_device_placement


def kept_in_float32(model: Any) -> list[str]:
    """Parts of paths whose parameters transformers keeps in float32 whatever the dtype."""
    return [
        part
        for key in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
        for part in getattr(model, key, None) or ()
    ]


def dequantizing() -> dict[str, Any]:
    """What tells transformers to dequantize a GGUF file. Versions before 5.20 know nothing else."""
    import transformers

    kind = getattr(transformers, "GgufConfig", None)
    return {} if kind is None else {"quantization_config": kind(dequantize=True)}


def attention_of(config: Any) -> str:
    """The attention that transformers computes a model of this config with."""
    return str(getattr(config, "_attn_implementation", None))


def tensors_inside(tensor: "torch.Tensor") -> Iterator["torch.Tensor"]:
    """What memory a tensor takes: itself, or what a subclass of torchao's or bitsandbytes' keeps
    inside."""
    import torch
    from torch.utils._python_dispatch import is_traceable_wrapper_subclass

    if is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from tensors_inside(getattr(tensor, name))
        return
    yield tensor.data
    state = getattr(tensor, "quant_state", None)
    held = [getattr(state, key, None) for key in ("absmax", "code")]
    held += [getattr(tensor, key, None) for key in ("CB", "SCB")]
    yield from (part for part in held if isinstance(part, torch.Tensor))


@cache
def worker_failures() -> list[BaseException]:
    """The list that collects what fails in gptqmodel's workers from the first call on.

    gptqmodel ends the process (``os._exit``) when a task of a worker fails, though the error
    also reaches whoever waits for that task. It no longer does after this: look into the list for
    those for which nobody waited. A worker that cannot even start still ends the process, since
    its tasks would be waited for without end; why goes to the process' own standard error.
    """
    from gptqmodel.utils import threadx

    found: list[BaseException] = []
    worker: Any = threadx._DeviceWorker
    end_process = worker._abort_process
    ending = threading.Lock()

    def collect(self: Any, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        if any(frame.name == "_run_warmup" for frame in frames):
            with ending:  # workers often fail together: the first ends the process, alone
                print(
                    f"gptqmodel cannot start its workers ({type(error).__name__}: {error}); free "
                    "memory on the device, or use a published checkpoint (quant.source=hub)",
                    file=sys.__stderr__,
                    flush=True,
                )
                end_process(self, error)
        found.append(error)

    worker._abort_process = collect
    return found


@contextmanager
def cuda_asked_in_forks() -> Iterator[None]:
    """While libraries are imported inside, what they ask of GPUs is asked by a fork of this
    process, for each question once: a process that has used CUDA can fork none that uses it, and
    one that had asked NVML was seen with a thread more. torchao looks in this way for its own
    kernels (0.17) and for a GPU that Triton compiles for (0.18)."""
    modules = [(import_module(module), name) for module, name in _CUDA_QUESTIONS]
    asked = [(module, name, getattr(module, name)) for module, name in modules]
    for module, name, question in asked:
        setattr(module, name, cache(partial(_in_a_fork, question)))
    try:
        yield
    finally:
        for module, name, question in asked:
            setattr(module, name, question)


def _in_a_fork(question: Callable[..., Any], *arguments: Any) -> Any:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, pickle.dumps(question(*arguments)))
        finally:
            os._exit(0)
    os.close(write)
    with FileIO(read) as stream:
        answer = stream.readall()
    os.waitpid(pid, 0)
    # One that could not answer has said why; here, then, CUDA is asked after all.
    return pickle.loads(answer) if answer else question(*arguments)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Let transformers and its helpers report errors only, while inside.

    What they would warn of (missing tensors, another dtype) is checked by `prove`, which
    raises instead.
    """
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
