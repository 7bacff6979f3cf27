"""Stands in for vLLM where it is not installed: the names that the engine's worker uses, around a
model that counts through the alphabet. ``FAKE_VLLM`` (JSON) has its letters, and what goes wrong."""

import json
import os
import signal
import sys
import time
from types import ModuleType, SimpleNamespace

WRONG = json.loads(os.environ.get("FAKE_VLLM", "{}"))


class OutOfMemoryError(RuntimeError):
    pass


class SamplingParams(SimpleNamespace):
    pass


class EngineArgs(SimpleNamespace):
    pass


class RequestOutputKind:
    DELTA, FINAL_ONLY = "delta", "final"


class Worker:
    def load_model(self, *, load_dummy_weights=False):
        print("loading weights of the fake", flush=True)
        if WRONG.get("at") == "load":
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class Tensor(SimpleNamespace):
    ndim = 2

    def numel(self):
        return 64

    def element_size(self):
        return 2


def named(name):
    """An object whose class has this name."""
    return type(name, (), {})()


class Model:
    def __init__(self, args):
        self.args = args

    def named_modules(self):
        dtype = WRONG.get("weight_dtype", self.args.dtype)
        method = named(WRONG.get("method", "UnquantizedLinearMethod"))
        method.kernel = named(WRONG["kernel"]) if "kernel" in WRONG else None
        weight = Tensor(dtype=f"torch.{dtype}", device=SimpleNamespace(type="cpu"))
        yield (
            "layers.0.mlp.down_proj",
            SimpleNamespace(
                quant_method=method,
                output_size=8,
                input_size=8,
                parameters=lambda recurse: [weight],
            ),
        )

    def parameters(self):
        return [Tensor(dtype="torch.float32")]

    def named_parameters(self):
        return []


class LLMEngine:
    def __init__(self, args):
        Worker().load_model()
        if WRONG.get("at") == "compile":
            raise ValueError(WRONG.get("said", "No available memory for the cache blocks"))
        cache = SimpleNamespace(
            cache_dtype=WRONG.get("kv_dtype", args.kv_cache_dtype),
            num_gpu_blocks=WRONG.get("blocks", 64),
            block_size=16,
            enable_prefix_caching=WRONG.get("prefix_caching", args.enable_prefix_caching),
        )
        self.vllm_config = SimpleNamespace(
            cache_config=cache,
            scheduler_config=SimpleNamespace(
                max_num_seqs=args.max_num_seqs, max_num_batched_tokens=512
            ),
            speculative_config=None,
            model_config=SimpleNamespace(
                dtype=f"torch.{args.dtype}",
                quantization=None,
                enforce_eager=args.enforce_eager,
                max_model_len=args.max_model_len,
            ),
            compilation_config=SimpleNamespace(cudagraph_mode=None, mode=None),
            parallel_config=SimpleNamespace(tensor_parallel_size=args.tensor_parallel_size),
        )
        self.args = args
        self.running = {}
        self.steps = 0

    @classmethod
    def from_engine_args(cls, args):
        return cls(args)

    def apply_model(self, function):
        return [function(Model(self.args))]

    def add_request(self, name, prompt, params):
        assert len(self.running) < self.args.max_num_seqs
        self.running[name] = [prompt["prompt_token_ids"], params, [], time.monotonic()]

    def abort_request(self, names):
        for name in names:
            self.running.pop(name, None)

    def step(self):
        self.steps += 1
        time.sleep(WRONG.get("step_s", 0))
        if WRONG.get("at") == "decode" and self.steps > 5:
            print("the fake is about to die", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        outputs = []
        for name, (ids, params, tokens, began) in list(self.running.items()):
            first = sum(ids) + (getattr(params, "seed", None) or 0)
            tokens.append(WRONG["letters"][(first + len(tokens)) % 26])
            reason = None
            if tokens[-1] in getattr(params, "stop_token_ids", ()):
                reason = "stop"
            elif len(tokens) == params.max_tokens:
                reason = "length"
            if reason is not None:
                del self.running[name]
            whole = params.output_kind == RequestOutputKind.FINAL_ONLY
            if whole and reason is None:
                continue
            odd = float("nan") if WRONG.get("at") == "logits" else -1.0
            now = time.monotonic()
            outputs.append(
                SimpleNamespace(
                    request_id=name,
                    outputs=[
                        SimpleNamespace(
                            token_ids=tokens if whole else tokens[-1:], finish_reason=reason
                        )
                    ],
                    finished=reason is not None,
                    metrics=SimpleNamespace(first_token_ts=began, last_token_ts=now),
                    prompt_logprobs=[None, {1: SimpleNamespace(logprob=odd)}]
                    if hasattr(params, "prompt_logprobs")
                    else None,
                )
            )
        return outputs


def _module(name, **content):
    parts = name.split(".")
    for size in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:size]), ModuleType(".".join(parts[:size])))
    vars(sys.modules[name]).update(content)


_module("vllm.sampling_params", RequestOutputKind=RequestOutputKind)
_module("vllm.v1.engine.llm_engine", LLMEngine=LLMEngine)
_module("vllm.v1.worker.gpu_worker", Worker=Worker)
_module("vllm.platforms", current_platform=SimpleNamespace(_enum="fake"))
_module(
    "vllm.model_executor.kernels.linear",
    _POSSIBLE_KERNELS={
        "fake": [type("MacheteLinearKernel", (), {}), type("MarlinLinearKernel", (), {})]
    },
)
