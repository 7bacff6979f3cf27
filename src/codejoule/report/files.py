"""An analysis as files (JSON, tables, Markdown, the frontier), and its page as an artifact."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.analysis import Analysis, LoadedRuns, ratio_curves
from codejoule.analysis.store import reading, relocated
from codejoule.config.errors import UserError
from codejoule.config.writing import write_whole
from codejoule.report.frontier import frontier_figure, is_drawable
from codejoule.report.quantization import quantization_figure
from codejoule.report.terminal import (
    Column,
    finetuning_lines,
    legend,
    quantization_pays,
    round_columns,
    table_columns,
)

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.tracking import MlflowClient

_OF = "codejoule.analysis_of"


def write_tables(analysis: Analysis, folder: Path) -> list[Path]:
    """Write every table, and all of them as one JSON file.

    ``analysis.json``, and in the folder ``tables`` (``tables/1``, ``tables/2``, ... where there are
    several groups) each table as NAME.csv and NAME.tex.
    """
    whole, root = folder / "analysis.json", folder / "tables"
    write_whole(whole, json.dumps(analysis.as_json(), allow_nan=False))
    for stale in root.glob("**/*.*"):
        if stale.suffix in (".csv", ".tex"):
            stale.unlink()
    for number, group in enumerate(analysis.groups, start=1):
        own = root if len(analysis.groups) == 1 else root / str(number)
        for table in group.tables.values():
            write_whole(own / f"{table.name}.csv", table.frame.to_csv(index=False))
            write_whole(own / f"{table.name}.tex", table.to_latex())
    return [whole, root]


def write_comparison(analysis: Analysis, folder: Path) -> list[Path]:
    """Write what the terminal shows, the front, and where quantization pays.

    ``comparison.csv``, ``comparison.md``, ``frontier.svg`` and ``.png``, and where quantized models
    were run at several batches ``quantization.svg`` and ``.png`` (numbered where there are several
    groups).
    """
    import pandas as pd

    csv, markdown = folder / "comparison.csv", folder / "comparison.md"
    whole = pd.concat(
        [group.evidence.table.assign(group=group.group.title) for group in analysis.groups],
        ignore_index=True,
    )
    whole["run_ids"] = whole["run_ids"].map(" ".join)
    write_whole(csv, whole.to_csv(index=False))
    write_whole(markdown, _markdown(analysis))
    written = [csv, markdown]
    for stale in (*folder.glob("frontier*"), *folder.glob("quantization*")):
        stale.unlink()
    for number, group in enumerate(analysis.groups, start=1):
        stem = "frontier" if len(analysis.groups) == 1 else f"frontier_{number}"
        for ending in ("svg", "png") if is_drawable(group.evidence.table) else ():
            frontier_figure(group.evidence.table, folder / f"{stem}.{ending}")
            written.append(folder / f"{stem}.{ending}")
        curves = ratio_curves(group.evidence)
        stem = stem.replace("frontier", "quantization")
        for ending in ("svg", "png") if curves else ():
            quantization_figure(curves, folder / f"{stem}.{ending}")
            written.append(folder / f"{stem}.{ending}")
    return written


def _markdown(analysis: Analysis) -> str:
    count = analysis.runs
    parts = [
        "# Energy and accuracy",
        f"{count} finished {'run' if count == 1 else 'runs'} of experiment "
        f"{analysis.experiment} in {analysis.uri}.",
    ]
    if analysis.left_out:
        parts.append(f"Left out: {'; '.join(analysis.left_out)}.")
    if len(analysis.groups) > 1:
        parts.append(
            f"They are of {len(analysis.groups)} kinds that cannot be compared with one another "
            "(other tasks, machines, weights, or sources of energy): one table each."
        )
    for group in analysis.groups:
        table = group.evidence.table
        parts += [f"## {group.group.title}", markdown_table(table), *legend(table)]
        if group.notes:
            parts.append("\n".join(f"- {note}" for note in group.notes))
        if pays := quantization_pays(group):
            parts += ["### Where quantization pays", "\n".join(f"- {said}" for said in pays)]
        if lines := finetuning_lines(group):
            parts += ["### Fine-tuning", "\n".join(["```text", *lines[2:], "```"])]
        if (rounds := round_columns(group)) is not None:
            parts += ["### Repair rounds", _pipe_table(rounds[:1], rounds[1:])]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: "pd.DataFrame") -> str:
    """The terminal's table of a comparison, in Markdown."""
    return _pipe_table(*table_columns(table))


def _pipe_table(settings: Sequence[Column], figures: Sequence[Column]) -> str:
    columns = [*settings, *figures]
    rows = zip(*(cells for _, cells in columns), strict=True)
    lines = [
        _pipes(title for title, _ in columns),
        _pipes(["---"] * len(settings) + ["---:"] * len(figures)),
        *(_pipes(cell.replace("|", "\\|") for cell in row) for row in rows),
    ]
    return "\n".join(lines)


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def log_report(loaded: LoadedRuns, page: Path) -> str:
    """Log a page about `loaded` runs in MLflow, and say which run has it.

    That run has the artifact ``report/index.html`` then: the sweep's parent where all runs are of
    one sweep, otherwise a run of kind ``analysis``, the same one for the same runs. In a store that
    was moved or copied the artifact lies beside the database. Raises `UserError` if the store
    cannot be written.
    """
    parents = set(loaded.frame["sweep"])
    moved_to = relocated(loaded.uri, loaded.frame["artifact_uri"])
    with reading(loaded.uri) as client:
        if len(parents) == 1 and None not in parents:
            run_id = str(next(iter(parents)))
        else:
            run_id = _analysis_run(client, loaded)
        try:
            if moved_to is None:
                client.log_artifact(run_id, str(page), "report")
            else:
                # MLflow would write to the place that the store was moved or copied from.
                folder = moved_to / run_id / "artifacts" / "report"
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(page, folder)
        except OSError as error:
            raise UserError(
                f"the page cannot be logged in {loaded.uri}: {error}; --no-log leaves it out"
            ) from error
    return run_id


def _analysis_run(client: "MlflowClient", loaded: LoadedRuns) -> str:
    """The run of kind ``analysis`` for these runs; made where there is none."""
    home = client.get_experiment_by_name(loaded.experiment)
    assert home is not None, "runs were read from it"
    of = hashlib.sha256(" ".join(sorted(loaded.frame["run_id"])).encode()).hexdigest()
    known = client.search_runs([home.experiment_id], f"tags.`{_OF}` = '{of}'", max_results=1)
    if known:
        return str(known[0].info.run_id)
    note = f"Report on {len(loaded.frame)} runs: see the artifact report/index.html."
    tags = {"codejoule.kind": "analysis", _OF: of, "mlflow.note.content": note}
    run = client.create_run(home.experiment_id, run_name="analysis", tags=tags)
    client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)
