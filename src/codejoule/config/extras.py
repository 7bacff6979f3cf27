"""Libraries that an installation may lack, and the extra of the package that brings each."""

import re
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

from codejoule.config.errors import UserError

_DISTRIBUTIONS = {
    "hydra": "hydra-core",
    "pynvml": "nvidia-ml-py",
    "yaml": "pyyaml",
}
"""Modules that are called otherwise than the distribution that has them."""
EXTRAS: Mapping[str, Mapping[str, str]] = {
    "run": {},
    "gpu": {"quant=bnb_nf4": "bitsandbytes", "quant=bnb_int8": "bitsandbytes"},
    "cluster": {
        "hydra/launcher=joblib": "joblib",
        "hydra/launcher=slurm": "submitit",
    },
    "ray": {"hydra/launcher=ray": "ray", "evaluator=ray": "ray"},
    "server": {"codejoule server": "psycopg"},
    "finetune": {"stage=finetune": "peft", "model.adapter": "peft"},
    "optuna": {"hydra/sweeper=optuna": "hydra-optuna-sweeper"},
}
"""Extras of the package; the choices that need each, and the distribution that such a choice is
missing without. Hydra has those of its own groups only where that is installed. ``run`` is for
every job."""
_EVERY_JOB = ("torch", "transformers")
_REQUIREMENT = re.compile(r"^([\w.-]+)(?:.*extra == ['\"]([\w-]+)['\"])?")


def require_job_libraries() -> None:
    """Raise `UserError` where a job's libraries are not installed, before it begins."""
    for name in _EVERY_JOB:
        if find_spec(name) is None:
            raise UserError(_missing(name))


def how_to_install(module: str) -> str | None:
    """The command that installs a library of codejoule's; None for any other module. The package's
    own metadata says which extra it is listed in."""
    library = module.partition(".")[0]
    wanted = _plain(_DISTRIBUTIONS.get(library, library))
    found = _listed()
    extras = [extra for name, extra in found if name == wanted]
    if not extras:
        return None
    if None in extras:  # in no extra, since every command needs it
        return "pip install codejoule"
    # Extras include each other: the smallest brings least that is not asked for.
    sizes = Counter(extra for _, extra in found)
    return f"pip install 'codejoule[{min(extras, key=lambda extra: sizes[extra])}]'"


def distributions(extra: str | None) -> list[str]:
    """What an extra brings, or what every command needs (None); empty where codejoule itself is not
    installed, so that nobody says."""
    return [name for name, own in _listed() if own == extra]


def _listed() -> list[tuple[str, str | None]]:
    """Each distribution that codejoule asks for, and the extra that it is listed in."""
    try:
        lines = [_REQUIREMENT.match(line) for line in requires("codejoule") or ()]
    except PackageNotFoundError:
        return []
    return [(_plain(line[1]), line[2]) for line in lines if line]


def missing_plugin(choice: str) -> str | None:
    """What to tell where Hydra does not know `choice` (``hydra/launcher=joblib``) because its
    plugin is not installed; None for others."""
    for choices in EXTRAS.values():
        if (plugin := choices.get(choice)) is not None:
            return f"{choice}: {plugin} is not installed: {how_to_install(plugin)}"
    return None


def require_choice(choice: str) -> None:
    """Raise `UserError` where what `choice` needs is not installed."""
    wanted = next(own[choice] for own in EXTRAS.values() if choice in own)
    try:
        version(wanted)
    except PackageNotFoundError:
        raise UserError(missing_plugin(choice)) from None


def missing_library(error: BaseException) -> str | None:
    """What to tell where `error` is the failed import of such a library; None for others."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    return None if how_to_install(error.name) is None else _missing(error.name)


def _missing(module: str) -> str:
    library = module.partition(".")[0]
    return f"{library} is not installed, which this needs: {how_to_install(module)}"


def _plain(name: str) -> str:
    """A distribution's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
