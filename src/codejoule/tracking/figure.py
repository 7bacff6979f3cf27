"""Power over the time of a run."""

from collections import defaultdict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from codejoule.config import write_whole
from codejoule.domain import EnergySource
from codejoule.tracking.power import PowerSample


def power_figure(samples: Sequence[PowerSample], path: Path, *, source: EnergySource) -> None:
    """Draw the power of each device over time; `path` ends in ``.svg`` or ``.png``.

    The title says where the figures come from. ValueError without samples.
    """
    from matplotlib.figure import Figure

    if not samples:
        raise ValueError("no power samples to draw")
    first_s = min(s.time_s for s in samples)
    by_device: dict[str, list[PowerSample]] = defaultdict(list)
    for sample in samples:
        by_device[sample.device].append(sample)
    # A Figure of its own draws without a display and without pyplot's global state.
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for device, own in sorted(by_device.items()):
        own.sort(key=lambda s: s.time_s)
        axes.plot([s.time_s - first_s for s in own], [s.power_w for s in own], label=device, lw=1)
    axes.set(xlabel="time [s]", ylabel="power [W]", title=_title(source))
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    content = BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix("."), dpi=120)
    write_whole(path, content.getvalue())


def _title(source: EnergySource) -> str:
    if source is EnergySource.estimate:
        return "Power over time (estimate: CPU time x assumed watts per core, not measured)"
    return f"Power over time ({source.value})"
