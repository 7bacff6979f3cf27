"""Which runs are of one configuration, and which can be compared at all."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codejoule.config.relevance import is_setting

if TYPE_CHECKING:
    import pandas as pd

SHOWN = {
    "model": "params.model.name",
    "quant": "params.quant.name",
    "batch": "params.batch.size",
    "engine": "params.engine.name",
    "generation": "params.generation.name",
}
"""Columns of every table that say which configuration a row is."""

COMPARABLE = {
    "suite": "params.suite.name",
    "split": "params.suite.split",
    "tasks": "dataset_digest",
    "energy source": "tags.codejoule.energy_source",
    "energy scope": "tags.codejoule.energy_scope",
    "evaluation energy source": "tags.codejoule.energy_source_evaluation",
    "weights": "tags.codejoule.weights",
    "length": "tags.codejoule.length",
    "GPU": "tags.codejoule.gpu",
    "machine": "tags.codejoule.host",
    "concurrent jobs": "tags.codejoule.concurrent",
    "published": "tags.codejoule.published",
}
"""What must be equal before two figures mean the same. ``published`` is ``true`` for figures
from the literature and absent for runs of one's own; ``concurrent jobs`` is absent where no other
job of codejoule worked on the machine meanwhile."""

IDENTITY = (
    *SHOWN.values(), *COMPARABLE.values(), "params.repeat", "tags.codejoule.fingerprint",
)  # fmt: skip
"""Columns that a frame of runs always has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs whose figures can be compared."""

    facts: dict[str, str]
    """What they have in common, by the names of `COMPARABLE`; what no run says is absent, and
    what was mixed on purpose is listed."""
    frame: "pd.DataFrame"
    """The runs."""
    mixed: tuple[str, ...] = ()
    """Names of `COMPARABLE` in which they differ, because that was asked for."""

    @property
    def estimate(self) -> bool:
        """Whether the energy of generation is an estimate, not a measurement."""
        return "estimate" in self.facts.get("energy source", "")

    @property
    def published(self) -> bool:
        """Whether some figures come from the literature."""
        return "published" in self.facts

    @property
    def random(self) -> bool:
        """Whether all weights are random, so that pass@1 means nothing."""
        return self.facts.get("weights") == "random"

    @property
    def title(self) -> str:
        """One line that names the group."""
        suite = self.facts.get("suite", "unknown suite")
        scope = self.facts.get("energy scope", "unknown scope")
        source = self.facts.get("energy source", "unknown source")
        where = self.facts.get("GPU") or self.facts.get("machine", "unknown machine")
        tasks = ", ".join(f"{count:.0f}" for count in sorted(set(self.frame["metrics.tasks"])))
        parts = [
            f"suite {suite} ({self.facts.get('split', 'unknown split')}, {tasks} tasks)",
            f"energy: {source} ({scope})",
            f"on {where}",
        ]
        if "concurrent jobs" in self.facts:
            parts.append(f"beside other jobs of codejoule ({self.facts['concurrent jobs']})")
        if self.published:
            parts.append("published figures")
        if self.random:
            parts.append("random weights: pass@1 means nothing")
        if self.mixed:
            parts.append(f"mixed on purpose: {', '.join(self.mixed)}")
        return ", ".join(parts)


def comparable_groups(frame: "pd.DataFrame", *, mix: Collection[str] = ()) -> list[Group]:
    """Divide runs into groups whose figures can be compared, in the order of their first runs.

    Runs of one group may differ in the names of `COMPARABLE` that `mix` has; another name raises
    ValueError.
    """
    unknown = sorted(set(mix) - set(COMPARABLE))
    if unknown:
        raise ValueError(f"cannot mix {', '.join(unknown)}: choose among {', '.join(COMPARABLE)}")
    if frame.empty:
        return []
    keys = frame[list(COMPARABLE.values())].astype(object).fillna("")
    # Where the host's CPU is outside the scope, the GPU's name says what was measured.
    on_gpus = keys[COMPARABLE["energy scope"]] == "gpu"
    keys.loc[on_gpus, COMPARABLE["machine"]] = ""
    # Jobs share no GPU: of concurrent ones it matters whether there were any, hardly how many.
    concurrent = keys[COMPARABLE["concurrent jobs"]] != ""
    keys.loc[on_gpus & concurrent, COMPARABLE["concurrent jobs"]] = "some"
    apart = [column for name, column in COMPARABLE.items() if name not in mix]
    groups = []
    for _, rows in frame.groupby(row_keys(keys, apart), sort=False):
        own = keys.loc[rows.index]
        texts = {
            name: ", ".join(filter(None, map(str, own[column].unique())))
            for name, column in COMPARABLE.items()
        }
        facts = {name: text for name, text in texts.items() if text}
        # A fact that some have and others lack is a difference, too.
        mixed = tuple(name for name in mix if own[COMPARABLE[name]].nunique() > 1)
        groups.append(Group(facts=facts, frame=rows.reset_index(drop=True), mixed=mixed))
    return groups


def relevant_params(frame: "pd.DataFrame") -> list[str]:
    """Columns of `frame` that hold what can change a result, repeats not among them."""
    return [
        column
        for column in frame.columns
        if column.startswith("params.")
        and column != "params.repeat"
        and is_setting(column.removeprefix("params."))
    ]


def row_keys(frame: "pd.DataFrame", columns: Sequence[str]) -> "pd.Series[str]":
    """One text per row that is equal exactly where all `columns` are."""
    import json

    import pandas as pd

    rows = frame[list(columns)].astype(object).where(frame[list(columns)].notna(), None)
    keys = [json.dumps(list(row), default=str) for row in rows.itertuples(index=False, name=None)]
    return pd.Series(keys, index=frame.index, dtype=object)


def superseded(frame: "pd.DataFrame") -> "pd.Series[bool]":
    """Runs that were run again later, although something outside the configuration changed.

    The same configuration and repeat with another fingerprint means other weights, tasks or
    library versions: averaging the two as repeats would hide that.
    """
    import pandas as pd

    late = pd.Series(False, index=frame.index)
    if frame.empty:
        return late
    columns = [*relevant_params(frame), *COMPARABLE.values(), "params.repeat"]
    for _, rows in frame.groupby(row_keys(frame, columns), sort=False):
        prints = rows["tags.codejoule.fingerprint"]
        newest = prints.iloc[int(rows["started_ms"].to_numpy(dtype="int64").argmax())]
        late.loc[rows.index] = prints != newest
    return late
