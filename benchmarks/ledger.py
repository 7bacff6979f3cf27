"""How well this machine's energy can be known: the ledger beside four other ways of measuring.

    python benchmarks/ledger.py --out DIR [--quick]

One run on one idle NVIDIA GPU (about 7 minutes on an H200; --quick about 3) does all of it and
prints tables, and leaves ``ledger.json`` and ``recording.npz`` (for meter=replay) in DIR:

1. heavy (matrix product) and light (random reads) kernels take turns in windows of 0.1 to 2 s.
   Truth is the steady power of each kernel, from long stretches before and after, times the
   window's length;
2. the windows, and what lies between them, against the counter's own difference;
3. tokens/s of decoding with the meter on and off, in turns, of a decoder that the GPU paces (a
   CUDA graph per token), of one that the host paces (kernel by kernel) and of Hugging Face
   `generate`;
4. the counter against integrated power on real generation at batch 1 and 32.
"""

import argparse
import json
import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pynvml
import torch
import yaml
from scipy import stats

from codejoule.config.schema import MeterConfig, OnBusyGpu
from codejoule.measurement import Meter, open_meter
from codejoule.measurement.curve import COUNTER_LAG_S, distinct_ticks, energy_at, tick_times
from codejoule.measurement.feed import (
    RECORD,
    Feed,
    Kind,
    LiveFeed,
    Recording,
    Records,
    save_recording,
)
from codejoule.measurement.ledger import Ledger
from codejoule.measurement.nvml import nvml_counter
from codejoule.models.placement import random_model

LENGTHS = {0.1: 60, 0.25: 44, 0.5: 44, 1.0: 36, 2.0: 12}
QUICK = {0.1: 20, 0.25: 16, 0.5: 16, 1.0: 12}
CODECARBON = {0.5: 12, 1.0: 12, 2.0: 6}
STEADY_S = 6.0
SETTLE_S = 2.0
POLL_S = 10.0


class Tee:
    """A feed that keeps a copy of every record."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.devices = feed.devices
        self.kept: list[Records] = []

    def read(self) -> Records:
        records = self._feed.read()
        self.kept.append(records)
        return records

    def close(self) -> None:
        self._feed.close()


class Kernels:
    """A heavy and a light kernel, each cut into units of some milliseconds."""

    def __init__(self) -> None:
        a, b = (torch.randn(4096, 4096, device="cuda") for _ in range(2))
        out = torch.empty_like(a)
        memory = torch.randn(2**28, device="cuda")
        where = torch.randint(2**28, (2**15,), device="cuda")
        picked = torch.empty(2**15, device="cuda")

        def product() -> None:
            torch.mm(a, b, out=out)

        def gather() -> None:
            for _ in range(400):
                torch.index_select(memory, 0, where, out=picked)

        self.units = {"heavy": product, "light": _graph(gather)}
        self.unit_s = {kind: self._time(unit) for kind, unit in self.units.items()}

    def _time(self, unit: Callable[[], None]) -> float:
        unit_s = 0.01
        for _ in range(3):
            count = max(1, int(0.5 / unit_s))
            began = time.perf_counter()
            for _ in range(count):
                unit()
            torch.cuda.synchronize()
            unit_s = (time.perf_counter() - began) / count
        return unit_s

    def run(self, kind: str, seconds: float) -> None:
        unit = self.units[kind]
        for _ in range(max(1, round(seconds / self.unit_s[kind]))):
            unit()
        torch.cuda.synchronize()


def _graph(work: Callable[[], None]) -> Callable[[], None]:
    # What was queued before on the current stream must be done: a new stream does not wait for it.
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        work()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


@contextmanager
def polling() -> Iterator[list[tuple[float, float]]]:
    """NVML's power every 10 s, as MLflow's system metrics poll it (the thesis' method)."""
    handle, polls, stop = pynvml.nvmlDeviceGetHandleByIndex(0), [], threading.Event()

    def poll() -> None:
        while True:
            polls.append((time.perf_counter(), pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3))
            if stop.wait(POLL_S):
                return

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield polls
    finally:
        stop.set()
        thread.join()


def codecarbon_tracker() -> tuple[Any, str]:
    try:
        from codecarbon import OfflineEmissionsTracker

        tracker = OfflineEmissionsTracker(
            measure_power_secs=1, gpu_ids=[0], save_to_file=False, log_level="error",
            country_iso_code="DEU", allow_multiple_runs=True,
        )  # fmt: skip
        tracker.start_task("warm-up")
        tracker.stop_task()
    except Exception as error:
        return None, f"absent: {type(error).__name__}: {error}"
    from importlib.metadata import version

    return tracker, f"codecarbon {version('codecarbon')}"


def windows(
    meter: Meter, kernels: Kernels, lengths: Mapping[float, int], tracker: Any
) -> list[dict[str, Any]]:
    """Windows of alternating kernels, lengths jittered so that edges fall anywhere in a tick."""
    rng, made = random.Random(1), []
    for length_s, count in lengths.items():
        for number in range(count):
            kind = ("heavy", "light")[number % 2]
            if tracker is not None:
                tracker.start_task()
            with meter.window(kind) as window:
                kernels.run(kind, length_s * rng.uniform(0.85, 1.15))
            carbon_j = tracker.stop_task().gpu_energy * 3.6e6 if tracker is not None else None
            made.append(
                {
                    "kind": kind,
                    "length_s": length_s,
                    "opened_s": window._opened,
                    "closed_s": window._closed,
                    "zeus_j": sum(window._pending[0].values()) if window._pending else None,
                    "codecarbon_j": carbon_j,
                    "window": window,
                }
            )
    return made


def steady(kernels: Kernels, spans: list[tuple[str, float, float]]) -> None:
    for kind in kernels.units:
        began = time.perf_counter()
        kernels.run(kind, STEADY_S)
        spans.append((kind, began + SETTLE_S, time.perf_counter() - 0.2))


def steady_powers(records: Records, spans: Sequence[tuple[str, float, float]]) -> dict[str, Any]:
    """Power of each kernel by whole ticks inside its long stretches [W], and each stretch's."""
    ticks = records[records["kind"] == Kind.tick]
    times_s = tick_times(ticks["before_s"], ticks["after_s"]) - COUNTER_LAG_S
    powers: dict[str, list[float]] = {}
    for kind, start_s, end_s in spans:
        inside = np.flatnonzero((times_s > start_s) & (times_s < end_s))
        first, last = inside[0], inside[-1]
        energy_j = ticks["value"][last] - ticks["value"][first]
        powers.setdefault(kind, []).append(energy_j / (times_s[last] - times_s[first]))
    return powers


def hold(polls: Sequence[tuple[float, float]], start_s: float, end_s: float) -> float:
    """Energy of a span if each poll holds until the next [J]."""
    edges = [*[max(start_s, t) for t, _ in polls], end_s]
    return sum(
        max(0.0, min(end_s, later) - earlier) * power_w
        for (earlier, later), (_, power_w) in zip(pairwise(edges), polls, strict=True)
        if earlier < end_s
    )


def score(
    made: Sequence[Mapping[str, Any]], truth_w: Mapping[str, float], polls: Any, records: Records
) -> dict[str, dict[str, list[float]]]:
    """Absolute relative error of each method, in percent, by window length."""
    ticks = records[records["kind"] == Kind.tick]
    seen_s, value_j = ticks["after_s"], ticks["value"]
    errors: dict[str, dict[str, list[float]]] = {}
    for item in made:
        start_s, end_s = item["opened_s"], item["closed_s"]
        reading = item["window"].reading
        truth_j = truth_w[item["kind"]] * (end_s - start_s)
        linear_j = np.interp(end_s, seen_s, value_j) - np.interp(start_s, seen_s, value_j)
        estimates = {
            "ledger": reading.energy_j,
            "ticks, linear": float(linear_j),
            "Zeus begin/end": item["zeus_j"],
            "power integrated": reading.integrated_j,
            "polled every 10 s": hold(polls, start_s, end_s),
            "CodeCarbon": item["codecarbon_j"],
        }
        for method, energy_j in estimates.items():
            if energy_j is not None:
                error = 100 * abs(energy_j / truth_j - 1)
                errors.setdefault(method, {}).setdefault(str(item["length_s"]), []).append(error)
        deviation = abs(reading.energy_j - truth_j) / max(reading.uncertainty_j, 1e-9)
        errors.setdefault("(ledger: |error| / uncertainty)", {}).setdefault(
            str(item["length_s"]), []
        ).append(deviation)
    return errors


def table(title: str, errors: Mapping[str, Mapping[str, list[float]]]) -> dict[str, Any]:
    print(f"\n{title}: median / 90th percentile of |error|, percent")
    lengths = list(dict.fromkeys(length for row in errors.values() for length in row))
    print(f"{'':32s}" + "".join(f"{length + ' s':>16s}" for length in lengths))
    summary: dict[str, Any] = {}
    for method, row in errors.items():
        cells = []
        for length in lengths:
            if length not in row:
                cells.append(f"{'':>16s}")
                continue
            median, ninety = float(np.median(row[length])), float(np.percentile(row[length], 90))
            summary.setdefault(method, {})[length] = [median, ninety, len(row[length])]
            cells.append(f"{median:7.2f} /{ninety:7.2f}")
        print(f"{method:32s}" + "".join(cells))
    return summary


def promises(summary: Mapping[str, Any]) -> dict[str, bool]:
    """What docs/lab-notes/ledger.md promises of the medians, held or not."""
    ours, zeus = summary["ledger"], summary["Zeus begin/end"]
    held = {
        "1 s: at most 1.5 %": ours["1.0"][0] <= 1.5,
        "1 s: at most half of begin/end's": ours["1.0"][0] <= zeus["1.0"][0] / 2,
        "0.5 s: at most 4 %": ours["0.5"][0] <= 4.0,
    }
    for promise, kept in held.items():
        print(f"  {promise}: {'held' if kept else 'NOT HELD'}")
    return held


def partition(
    records: Records, ledger: Ledger, made: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Windows and gaps against the window around them, and against the counter's difference."""
    edges = sorted({m for item in made for m in (item["opened_s"], item["closed_s"])})
    parts_j = [sum(ledger.entry(a, b, {}).by_device_j.values()) for a, b in pairwise(edges)]
    whole_j = sum(ledger.entry(edges[0], edges[-1], {}).by_device_j.values())
    tick = records[records["kind"] == Kind.tick]
    times_s = tick_times(tick["before_s"], tick["after_s"]) - COUNTER_LAG_S
    ticks = distinct_ticks(times_s, tick["value"])
    times_s = ticks.time_s
    first, last = np.searchsorted(times_s, edges[0]), np.searchsorted(times_s, edges[-1]) - 1
    cuts = [
        times_s[first],
        *[e for e in edges if times_s[first] < e < times_s[last]],
        times_s[last],
    ]
    at_j = [energy_at(m, ticks, [e for e in edges if abs(e - m) < 2.0]).energy_j for m in cuts]
    counter_j = ticks.energy_j[last] - ticks.energy_j[first]
    return {
        "windows": len(parts_j),
        # Less than the counter's own millijoule between two edges is NaN, and 0 in the sum.
        "below_resolution": int(np.isnan(parts_j).sum()),
        "run_j": whole_j,
        "sum_against_run_rel": abs(np.nansum(parts_j) / whole_j - 1),
        "counter_j": counter_j,
        "sum_against_counter_rel": abs(sum(np.diff(at_j)) / counter_j - 1),
    }


def load(name: str) -> Any:
    path = Path(__file__).parents[1] / "conf" / "model" / f"{name}.yaml"
    architecture = yaml.safe_load(path.read_text())["architecture"]
    return random_model(architecture, seed=0, dtype=torch.bfloat16, device="cuda").eval()


def decode(model: Any, batch: int, tokens: int, each: Callable[[int], None]) -> None:
    """Decode exactly `tokens` tokens per sequence after 200 of prompt; `each` at every token."""
    from transformers import LogitsProcessor, LogitsProcessorList

    class Watch(LogitsProcessor):  # type: ignore[misc]
        calls = 0

        def __call__(self, ids: Any, scores: Any) -> Any:
            each(self.calls)
            self.calls += 1
            return scores

    prompt = torch.randint(100, 10_000, (batch, 200), device="cuda")
    model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, min_new_tokens=tokens,
        max_new_tokens=tokens, pad_token_id=0, logits_processor=LogitsProcessorList([Watch()]),
    )  # fmt: skip
    torch.cuda.synchronize()


class Decoder:
    """Decodes at batch 1 over a static cache, each token read back, as an engine that looks for
    the end does.

    With `graph` a step is one replay of a CUDA graph: the GPU sets the pace, which is steady, so
    that a slowdown of a fraction of a percent can be seen. Without, the host sets it, launching
    each kernel.
    """

    PROMPT, ROOM = 200, 1200

    def __init__(self, model: Any, *, graph: bool) -> None:
        from transformers import StaticCache

        self._cache = StaticCache(config=model.config, max_cache_len=self.PROMPT + self.ROOM)
        place = torch.arange(self.PROMPT + self.ROOM, device=model.device)
        self._position = torch.full((1, 1), self.PROMPT, device=model.device)

        def step() -> None:
            mask = (place <= self._position)[None, None]
            seen = model(
                self._token, attention_mask=mask, position_ids=self._position,
                past_key_values=self._cache, use_cache=True,
            )  # fmt: skip
            self._token.copy_(seen.logits[:, -1:].argmax(-1))
            self._position.add_(1)

        with torch.inference_mode():
            prompt = torch.randint(100, 10_000, (1, self.PROMPT), device=model.device)
            first = model(prompt, past_key_values=self._cache, use_cache=True)
            self._token = first.logits[:, -1:].argmax(-1).clone()
            self.step = _graph(step) if graph else step
        self.reset()

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget everything after the prompt."""
        self._position.fill_(self.PROMPT)
        for layer in self._cache.layers:
            layer.cumulative_length.fill_(self.PROMPT)

    @torch.inference_mode()
    def run(self, tokens: int) -> float:
        """Decode `tokens` tokens after the prompt; tokens per second."""
        self.reset()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(tokens):
            self.step()
            self._token.item()
        return tokens / (time.perf_counter() - began)


class Sampler:
    """The sampler's process, stopped and continued."""

    def __init__(self, feed: LiveFeed) -> None:
        self._process = psutil.Process(feed._process.pid)
        self.niceness = self._process.nice()
        self._looks = self._shared = 0

    def run(self, on: bool) -> None:
        os.kill(self._process.pid, signal.SIGCONT if on else signal.SIGSTOP)

    def cpu_s(self) -> float:
        return sum(self._process.cpu_times()[:2])

    def look(self) -> None:
        """Note whether one of its threads was last on the core of this thread."""
        tasks = Path(f"/proc/{self._process.pid}/task")
        cores = {_core(task / "stat") for task in tasks.iterdir()}
        self._shared += _core(Path(f"/proc/self/task/{threading.get_native_id()}/stat")) in cores
        self._looks += 1

    def shared(self) -> str:
        return f"{self._shared} of {self._looks}"


def _core(stat: Path) -> str:
    return stat.read_text().rpartition(")")[2].split()[36]


def interval(values: Sequence[float], *, independent: int | None = None) -> list[float]:
    """Mean and its 95 % confidence interval (Student's t)."""
    n = independent or len(values)
    mean, error = statistics.mean(values), statistics.stdev(values) / n**0.5
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    return [mean, mean - reach, mean + reach]


def cost_of_steps(name: str, model: Any, *, graph: bool, pairs: int) -> dict[str, Any]:
    """Decoding speed of `Decoder` with the meter (a window around, the sampler running) and
    without (no window, the sampler stopped), in the order on, off, off, on."""
    decoder = Decoder(model, graph=graph)
    tokens = min(Decoder.ROOM, int(0.75 * decoder.run(100)))
    counter = nvml_counter((0,))
    feed = LiveFeed(counter.uuids, period_s=0.02)
    speeds: dict[bool, list[float]] = {True: [], False: []}
    with Meter(counter, sample_period_s=0.1, idle_s=0.0, ledger=Ledger(feed)) as meter:
        sampler = Sampler(feed)
        cpu_s, on_s = 0.0, 0.0
        for number in range(2 * pairs):
            on = number % 4 in (0, 3)
            sampler.run(on)
            time.sleep(0.05)
            if not on:
                speeds[on].append(decoder.run(tokens))
                continue
            before_s, began = sampler.cpu_s(), time.perf_counter()
            with meter.window("batch"):
                speeds[on].append(decoder.run(tokens))
            sampler.look()
            on_s += time.perf_counter() - began
            cpu_s += sampler.cpu_s() - before_s
        sampler.run(True)
    slower = [100 * (1 - on / off) for on, off in zip(speeds[True], speeds[False], strict=True)]
    result = {
        "on_tokens_per_s": statistics.mean(speeds[True]),
        "off_tokens_per_s": statistics.mean(speeds[False]),
        "slower_percent_95": interval(slower),
        "pairs": len(slower),
        "tokens_per_block": tokens,
        "sampler_cores": cpu_s / on_s,
        "sampler_niceness": sampler.niceness,
        "sampler_on_the_decoders_core": sampler.shared(),
        "cores": len(os.sched_getaffinity(0)),
        "speeds": speeds,
    }
    mean, low, high = result["slower_percent_95"]
    how = "CUDA graph" if graph else "kernel by kernel"
    print(
        f"{name}, {how}: {result['on_tokens_per_s']:.2f} tokens/s metered, "
        f"{result['off_tokens_per_s']:.2f} not; {mean:+.3f} % slower, 95 % interval {low:+.3f} to "
        f"{high:+.3f} % ({len(slower)} pairs of {tokens} tokens); the sampler (niceness "
        f"{sampler.niceness}) took {result['sampler_cores']:.3f} of a core and, of "
        f"{result['cores']}, was on the decoding thread's core at {sampler.shared()} looks"
    )
    return result


@contextmanager
def toggling(sampler: Sampler, block_s: float) -> Iterator[list[tuple[float, bool]]]:
    """Stop and continue the sampler in turns; when, and whether it runs from then on."""
    switches, stop, on = [(time.perf_counter(), True)], threading.Event(), True

    def toggle() -> None:
        nonlocal on
        while not stop.wait(block_s):
            on = not on
            sampler.run(on)
            switches.append((time.perf_counter(), on))

    thread = threading.Thread(target=toggle)
    thread.start()
    try:
        yield switches
    finally:
        stop.set()
        thread.join()
        sampler.run(True)


def cost_of_generate(name: str, model: Any, *, seconds: float, block_s: float = 0.5) -> Any:
    """Speed of Hugging Face `generate` with the sampler running and stopped, by turns of half a
    second.

    The host sets its pace, and its speed drifts by tens of percent over seconds whatever the meter
    does: a turn is compared with the ones beside it.
    """
    counter = nvml_counter((0,))
    feed = LiveFeed(counter.uuids, period_s=0.02)
    steps: list[tuple[float, float]] = []
    with Meter(counter, sample_period_s=0.1, idle_s=0.0, ledger=Ledger(feed)) as meter:
        decode(model, 1, 32, lambda number: None)
        last_s = 0.0

        def each(number: int) -> None:
            nonlocal last_s
            now_s = time.perf_counter()
            if number > 1:
                steps.append((last_s, now_s))
            last_s = now_s

        until_s = time.perf_counter() + seconds
        with meter.window("batch"), toggling(Sampler(feed), block_s) as switches:
            while time.perf_counter() < until_s:
                decode(model, 1, 128, each)
        outside = []
        for _ in range(10):
            began = time.perf_counter()
            with meter.window("empty") as window:
                pass
            _ = window.reading
            outside.append(time.perf_counter() - began)
    blocks = [
        (on, [b - a for a, b in steps if start_s <= a and b <= end_s])
        for (start_s, on), (end_s, _) in pairwise(switches)
    ]
    speeds = [(on, len(d) / sum(d)) for on, d in blocks if len(d) >= 5]
    slower = [
        100 * (1 - middle / ((before + after) / 2)) * (1 if on else -1)
        for (_, before), (on, middle), (_, after) in zip(
            speeds, speeds[1:], speeds[2:], strict=False
        )
    ]
    result = {
        # Neighbouring differences share turns: half of them are independent.
        "slower_percent_95": interval(slower, independent=len(slower) // 2),
        "slower_percent_median": statistics.median(slower),
        "tokens_per_s": statistics.mean(speed for _, speed in speeds),
        "turns": len(speeds),
        "outside_window_s": statistics.median(outside),
        "speeds": speeds,
    }
    mean, low, high = result["slower_percent_95"]
    print(
        f"{name}, generate: {result['tokens_per_s']:.2f} tokens/s; {mean:+.2f} % slower with the "
        f"sampler, 95 % interval {low:+.2f} to {high:+.2f} % ({len(speeds)} turns); "
        f"{result['outside_window_s']:.3f} s per window outside of it, for its reading"
    )
    return result


def crosscheck(model: Any, *, repeats: int, tokens: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with open_meter(_CONFIG, gpu_indices=(0,)) as meter:
        idle_w = meter.measure_idle()
        for batch in (1, 32):
            readings = []
            for _ in range(repeats):
                with meter.window("batch") as window:
                    # The second call comes when the first token is there.
                    decode(
                        model, batch, tokens,
                        lambda n, mark=window.mark: mark("first_token") if n == 1 else None,
                    )  # fmt: skip
                readings.append(window.reading)
            energy_j = sum(r.energy_j for r in readings)
            integrated_j = sum(r.integrated_j or float("nan") for r in readings)
            result[f"batch_{batch}"] = {
                "energy_j": energy_j,
                "energy_net_j": sum(r.energy_net_j or float("nan") for r in readings),
                "integrated_j": integrated_j,
                "crosscheck_rel": integrated_j / energy_j - 1,
                "uncertainty_j": sum(r.uncertainty_j**2 for r in readings) ** 0.5,
                "ticks": sum(r.ticks for r in readings),
                "latency_s": sum(r.latency_s for r in readings),
                "prefill_j": sum(r.energy_at_marks_j["first_token"] for r in readings),
                "idle_w": idle_w,
            }
            print(f"batch {batch}: " + ", ".join(
                f"{k} {v:.4g}" for k, v in result[f"batch_{batch}"].items()
            ))  # fmt: skip
    return result


def _keep(
    out: Path, ledger: Ledger, feed: Tee, about: Any, idle_w: Any, spans: Any, made: Any, polls: Any
) -> Records:
    """Everything recorded so far, also as a file, before any of it is worked with."""
    ledger.new_powers_w()
    records = np.concatenate(feed.kept)
    names = ("kind", "length_s", "opened_s", "closed_s", "zeus_j", "codecarbon_j")
    plain = [{name: item[name] for name in names} for item in made]
    facts = about | {
        "idle_w": idle_w, "windows": plain, "steady_spans": spans, "polls": list(polls),
    }  # fmt: skip
    save_recording(out / "recording.npz", Recording(records, feed.devices, facts))
    return records


_CONFIG = MeterConfig(on_busy_gpu=OnBusyGpu.error)


def windows_and_sums(out: Path, about: Any, *, quick: bool) -> dict[str, Any]:
    """Parts 1 and 2."""
    kernels = Kernels()
    print(about, {kind: f"{unit_s * 1e3:.2f} ms" for kind, unit_s in kernels.unit_s.items()})
    counter = nvml_counter((0,))
    feed = Tee(LiveFeed(counter.uuids, period_s=0.02))
    ledger = Ledger(feed)
    spans: list[tuple[str, float, float]] = []
    tracker, carbon = codecarbon_tracker()
    print("CodeCarbon:", carbon)
    with (
        Meter(counter, sample_period_s=0.1, idle_s=10.0, ledger=ledger) as meter,
        polling() as polls,
    ):
        idle_w = meter.measure_idle()
        steady(kernels, spans)
        made = windows(meter, kernels, QUICK if quick else LENGTHS, None)
        steady(kernels, spans)
        carbon_made = windows(meter, kernels, CODECARBON, tracker) if tracker else []
        time.sleep(0.5)
        every = [*made, *carbon_made]
        records = _keep(out, ledger, feed, about, idle_w, spans, every, polls)
        for item in every:
            _ = item["window"].reading
        powers = steady_powers(records, spans)
        truth_w = {kind: statistics.mean(values) for kind, values in powers.items()}
        print(f"\nidle {idle_w:.1f} W; steady power before and after [W]: "
              + str({k: [round(float(w), 1) for w in v] for k, v in powers.items()}))  # fmt: skip
        result: dict[str, Any] = {"idle_w": idle_w, "steady_w": powers, "codecarbon": carbon}
        result["windows"] = table("1. Windows", score(made, truth_w, polls, records))
        result["promises"] = promises(result["windows"])
        if carbon_made:
            result["windows_codecarbon"] = table(
                f"1b. Windows with {carbon} around each",
                score(carbon_made, truth_w, polls, records),
            )
        result["partition"] = partition(records, ledger, made)
        print("\n2. Windows add up:", json.dumps(result["partition"]))
        print(f"records: {len(records)}, {len(records) * RECORD.itemsize} bytes", flush=True)
    del kernels
    torch.cuda.empty_cache()
    return result


def cost_and_crosscheck(*, quick: bool) -> Iterator[tuple[str, str, Any]]:
    """Parts 3 and 4, one result after the other: what it is, of which model, and the figures."""
    print("\n3. Cost of metering (batch 1)", flush=True)
    for name in ("qwen_0_5b", "qwen_7b"):
        model = load(name)
        yield "cost", name, cost_of_steps(name, model, graph=True, pairs=8 if quick else 24)
        yield "cost_host", name, cost_of_steps(name, model, graph=False, pairs=8 if quick else 24)
        if name == "qwen_7b":
            print("\n4. Counter against integrated power, real generation of qwen_7b", flush=True)
            decode(model, 32, 16, lambda number: None)
            yield "crosscheck", name, crosscheck(model, repeats=2, tokens=160)
        yield "cost_generate", name, cost_of_generate(name, model, seconds=8 if quick else 15)
        del model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=["windows", "cost"], help="parts 1 and 2, or 3 and 4")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    about: dict[str, Any] = {
        "gpu": pynvml.nvmlDeviceGetName(handle),
        "driver": pynvml.nvmlSystemGetDriverVersion(),
        "torch": torch.__version__,
        "made_by": "benchmarks/ledger.py",
    }
    result: dict[str, Any] = {"about": about}

    def keep() -> None:
        (args.out / "ledger.json").write_text(json.dumps(result, indent=1))

    if args.only != "cost":
        result |= windows_and_sums(args.out, about, quick=args.quick)
        keep()
    if args.only != "windows":
        for kind, name, figures in cost_and_crosscheck(quick=args.quick):
            result.setdefault(kind, {})[name] = figures
            keep()


if __name__ == "__main__":
    main()
