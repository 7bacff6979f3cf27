"""Where the adapter of a run is: a folder, or the artifact of a run that trained it."""

import re
import shutil
from pathlib import Path

from codejoule.common.progress import doing
from codejoule.config import UserError, home
from codejoule.config.schema import ExperimentConfig
from codejoule.tracking import prepare_store

ARTIFACT = "adapter"
"""Name of the artifact."""
_RUN = re.compile(rf"runs:/(\w+)(?:/{ARTIFACT})?/?")


def adapter_folder(experiment: ExperimentConfig) -> Path | None:
    """The folder of ``model.adapter``; that of a run is copied from the store once. None where
    there is no adapter. Raises `UserError` for a run that has none."""
    place = experiment.model.adapter
    if place is None:
        return None
    found = _RUN.fullmatch(place)
    if found is None:
        return Path(place).expanduser().absolute()
    # It does not change any more: it is logged when training has ended.
    target = home() / "outputs" / "adapters" / found[1]
    if not target.is_dir():
        doing("fetching the adapter")
        scratch = target.with_name(f".{target.name}")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        store = prepare_store(experiment.tracking)
        run = store.read(found[1])
        fetched = None if run is None else store.fetch_artifact(found[1], ARTIFACT, scratch)
        if fetched is None:
            why = "no such run" if run is None else f"the run has no artifact {ARTIFACT}"
            raise UserError(
                f"model.adapter={place}: {why} in {store.uri}, experiment {store.experiment}; name "
                "a finished run with stage=finetune, or an adapter's folder"
            )
        if not target.is_dir():
            fetched.rename(target)
        shutil.rmtree(scratch, ignore_errors=True)
    return target
