"""What runs in the Python that has vLLM: an engine behind one pipe.

Run as a file, so that nothing of codejoule has to be there: the standard library and vLLM
alone. Messages are lines of JSON. The first that comes says what to load; it is answered by
``loaded`` (weights are in memory) and ``ready`` (compiled, captured, and looked at). Then come
requests, ends of requests whose text is complete, and questions for the peak of memory; what goes
back are each step's new tokens, and that peak.
Private parts of vLLM are used only in the functions below `VERSIONS`.
"""

import collections
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
import traceback

VERSIONS = "0.26 to 0.32"
"""Of vLLM, for which the functions up to `main` were tried."""
_EXPONENT = 121
"""2 ** (121 - 127), beside 4-bit floats of up to 6."""


def when_weights_are_there(tell):
    """Have `tell` called between loading weights and compiling for them."""
    from vllm.v1.worker.gpu_worker import Worker

    load = Worker.load_model

    def load_model(self, **options):
        load(self, **options)
        tell()

    Worker.load_model = load_model


def keep_to_kernel(name):
    """Let vLLM choose no other kernel for packed weights; ValueError with the choices."""
    from vllm.model_executor.kernels.linear import _POSSIBLE_KERNELS
    from vllm.platforms import current_platform

    there = {
        short(each.__name__): each.__name__ for each in _POSSIBLE_KERNELS[current_platform._enum]
    }
    if name not in there:
        raise ValueError(f"vLLM has no kernel {name} here; choose one of auto, {', '.join(there)}")
    others = [full for each, full in there.items() if each != name]
    os.environ["VLLM_DISABLED_KERNELS"] = ",".join(others)


def short(kernel):
    """``machete`` of ``MacheteLinearKernel``."""
    return kernel.removesuffix("LinearKernel").lower()


def fill(model, seed):
    """Draw weights anew. vLLM's dummy weights are tiny, packed ones are what the memory held, and
    the energy of a multiplication depends on its numbers. Scales stay."""
    import torch

    draws = {}
    for name, parameter in model.named_parameters():
        if "idx" in name or "scale" in name or "zero" in name:
            continue
        place = parameter.device
        drawn = draws.setdefault(place, torch.Generator(place).manual_seed(seed))
        if parameter.dtype in (torch.float32, torch.float16, torch.bfloat16):
            if parameter.ndim > 1:
                parameter.data.normal_(std=0.02, generator=drawn)
        elif parameter.dtype == torch.float8_e4m3fn:
            # As wide as checkpoints have it, whose largest number in a block becomes 448.
            drawn_here = torch.empty_like(parameter, dtype=torch.float32)
            parameter.data.copy_(drawn_here.normal_(std=112, generator=drawn).clamp_(-448, 448))
        elif parameter.dtype in (torch.int32, torch.int64, torch.uint8, torch.int8):
            limits = torch.iinfo(parameter.dtype)
            parameter.data.random_(limits.min, limits.max, generator=drawn)


def inspect(model):
    """Every linear layer as it lies in memory, and what attention runs on."""
    layers, attention = [], set()
    for name, module in model.named_modules():
        backend = getattr(module, "attn_backend", None)
        if backend is not None and hasattr(backend, "get_name"):
            attention.add(backend.get_name())
        method = getattr(module, "quant_method", None)
        # Some versions wrap the method of experts once weights are there.
        method = getattr(method, "old_quant_method", None) or method
        # All experts of a layer are one module, which has neither inputs nor outputs.
        experts = "moe" in type(method).__name__.lower()
        if method is None or not (
            experts or hasattr(module, "output_size") or hasattr(module, "num_embeddings")
        ):
            continue
        # On the CPU vLLM packs weights anew and releases the tensors.
        weight = next((p for p in module.parameters(recurse=False) if p.ndim > 1), None)
        scheme = getattr(module, "scheme", None)
        holders = ((method, "kernel"), (method, "fp8_linear"), (scheme, "kernel"))
        kernel = next((k for owner, name in holders if (k := getattr(owner, name, None))), None)
        config = getattr(method, "quant_config", None)
        layers.append(
            {
                "path": name,
                "class": type(module).__name__,
                "method": type(method).__name__,
                "scheme": None if scheme is None else type(scheme).__name__,
                "experts": experts,
                "kernel": None if kernel is None else type(kernel).__name__,
                "bits": getattr(config, "weight_bits", None),
                "group_size": getattr(config, "group_size", None),
                "dtype": None if weight is None else str(weight.dtype).removeprefix("torch."),
                "device": None if weight is None else weight.device.type,
                "inputs": getattr(module, "input_size", None),
                "outputs": getattr(module, "output_size", None),
            }
        )
    numbers = collections.Counter()
    for parameter in model.parameters():
        numbers[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
    memory = sum(p.numel() * p.element_size() for p in model.parameters())
    return {
        "architecture": type(model).__name__,
        "layers": layers,
        "attention": sorted(attention),
        "numbers": dict(numbers),
        "memory_bytes": memory,
    }


def peak_memory(model):
    """What PyTorch had allocated at most on this process' GPU; on the CPU the process [bytes]."""
    import torch

    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        peak = next(line for line in status if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


def settings_in_force(engine):
    """The settings that change energy, as vLLM has settled them."""
    config = engine.vllm_config
    cache, scheduler = config.cache_config, config.scheduler_config
    speculative = config.speculative_config
    return {
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        "quantization": config.model_config.quantization,
        "kv_dtype": cache.cache_dtype,
        "kv_cache_tokens": (cache.num_gpu_blocks or 0) * cache.block_size,
        "prefix_caching": bool(cache.enable_prefix_caching),
        "slots": scheduler.max_num_seqs,
        "longest_tokens": config.model_config.max_model_len,
        "max_batched_tokens": scheduler.max_num_batched_tokens,
        "async_scheduling": bool(getattr(scheduler, "async_scheduling", False)),
        "enforce_eager": bool(config.model_config.enforce_eager),
        "cuda_graphs": str(getattr(config.compilation_config.cudagraph_mode, "name", None)),
        "compilation": str(getattr(config.compilation_config.mode, "name", None)),
        "tensor_parallel": config.parallel_config.tensor_parallel_size,
        "speculative": None if speculative is None else speculative.method,
    }


def fill_exponents(model):
    """Give packed floats the scale of untrained weights: vLLM's dummy weights leave bytes as the
    memory held them, and an exponent of 255 is no number. Before kernels lay weights out anew."""
    import torch

    for name, parameter in model.named_parameters():
        if "scale" in name and parameter.dtype == torch.uint8:
            parameter.data.fill_(_EXPONENT)
        elif parameter.dtype == torch.uint8:
            parameter.data.random_(0, 256)


def dummy_weights_are_numbers():
    """Have `fill_exponents` called after vLLM's dummy weights."""
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    load = DummyModelLoader.load_weights

    def load_weights(self, model, *rest, **options):
        load(self, model, *rest, **options)
        fill_exponents(model)

    DummyModelLoader.load_weights = load_weights


class Served:
    """Requests that run, and those that wait: to arrive, or for one of them to end."""

    def __init__(self, engine, say):
        self._engine = engine
        self._say = say
        self._waiting = collections.deque()
        self._running = set()
        self._began = {}
        self._at_once = 1
        self._deltas = True

    def take(self, message):
        """A window's requests, the name of one that has ended, or a question for the peak of
        memory."""
        if "peak" in message:
            self._say({"memory_peak_bytes": sum(self._engine.apply_model(peak_memory))})
            return
        if "end" in message:
            if message["end"] in self._running:
                self._engine.abort_request([message["end"]])
                self._running.discard(message["end"])
            return
        self._at_once, self._deltas = message["at_once"], message["deltas"]
        self._waiting.extend(message["requests"])

    def pause_s(self):
        """How long there is nothing to do unless a message comes; None for as long as it takes."""
        return 0 if self._running else self._due_in_s()

    def _due_in_s(self):
        """How long until the next waiting request has arrived; None where none waits."""
        if not self._waiting:
            return None
        return max(0, self._waiting[0]["arrives_s"] - time.monotonic())

    def step(self):
        """One step of everything that runs, told in one line: when requests have begun, and for
        each that has something new its name, tokens, why it has ended, when it had its first and
        last token (where only its end is told), and whether a logit was not finite."""
        while len(self._running) < self._at_once and self._due_in_s() == 0:
            self._begin(self._waiting.popleft())
        if not self._running:
            return
        told = []
        for output in self._engine.step():
            name, one = output.request_id, output.outputs[0]
            if name not in self._running:
                continue
            times = None
            if output.finished:
                self._running.discard(name)
                if not self._deltas:
                    times = [output.metrics.first_token_ts, output.metrics.last_token_ts]
            odd = any(
                not all(each.logprob > float("-inf") for each in place.values())
                for place in (output.prompt_logprobs or ())
                if place
            )
            told.append([name, list(one.token_ids), one.finish_reason, times, odd])
        if told:
            self._say({"new": told, "began": self._began, "at_s": time.monotonic()})
            self._began = {}

    def _begin(self, request):
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.DELTA if self._deltas else RequestOutputKind.FINAL_ONLY
        params = SamplingParams(
            **request["sampling"], ignore_eos=True, detokenize=False, output_kind=kind
        )
        self._began[request["id"]] = time.monotonic()
        self._engine.add_request(request["id"], {"prompt_token_ids": request["ids"]}, params)
        self._running.add(request["id"])


def main():
    """Serve the pipe whose number is the argument, until it is closed or the parent ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    # Who has started this decides when it ends: what is under way may have to be finished.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    pipe = socket.socket(fileno=int(sys.argv[1]))
    lines = pipe.makefile("r", encoding="utf-8")

    def say(message):
        pipe.sendall((json.dumps(message) + "\n").encode())

    asked = json.loads(lines.readline())
    try:
        served = load(asked, say)
        serve(served, pipe, say)
    except Exception as error:
        traceback.print_exc()
        say({"error": f"{type(error).__name__}: {error}", "memory": is_full(error)})
        sys.stderr.flush()
        # vLLM's own tear-down may hang after an error.
        os._exit(1)
    os._exit(0)


def is_full(error):
    """Whether memory did not suffice: for weights, or for the keys and values of one sequence."""
    told = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or any(
        words in told for words in ("out of memory", "cache blocks", "available kv cache memory")
    )


def load(asked, say):
    """The engine that the first message asks for."""
    if asked["kernel"] != "auto":
        keep_to_kernel(asked["kernel"])
    from vllm import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    when_weights_are_there(lambda: say({"loaded": True}))
    if asked["fill"] is not None and asked["packed_floats"]:
        dummy_weights_are_numbers()
    engine = LLMEngine.from_engine_args(EngineArgs(**asked["engine"]))
    if asked["fill"] is not None:
        engine.apply_model(lambda model: fill(model, asked["fill"]))
    say({"ready": {**engine.apply_model(inspect)[0], **settings_in_force(engine)}})
    return Served(engine, say)


def serve(served, pipe, say):
    """Steps, and between them what has come through the pipe."""
    rest = b""
    while True:
        while select.select([pipe], [], [], served.pause_s())[0]:
            came = pipe.recv(1 << 20)
            if not came:
                return
            *whole, rest = (rest + came).split(b"\n")
            for line in whole:
                served.take(json.loads(line))
        served.step()


if __name__ == "__main__":
    main()
