"""Clusters and a server of this host's own, each started once, when the first test asks for it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.ray_nodes import RayNodes
from tests.cluster.server import Server
from tests.cluster.services import logs_of_all
from tests.cluster.slurm import ACCOUNTING, PROGRAMS, Slurm, missing
from tests.cluster.sweep import DEMO, LONG, Results, results, start

RAY_NODES = 2


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With a failure, show what the daemons wrote."""
    report = yield
    if report.failed:  # type: ignore[attr-defined]
        report.sections.append(("daemons", logs_of_all()))  # type: ignore[attr-defined]
    return report


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A folder that other users may enter: as root, PostgreSQL runs as one of them."""
    folder = Path(tempfile.mkdtemp(prefix="codejoule-cluster-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder(place: Path, request: pytest.FixtureRequest) -> Path:
    """A folder for one test's sweeps."""
    own = place / request.node.name
    own.mkdir()
    return own


@pytest.fixture(scope="session")
def server(place: Path) -> Iterator[Server]:
    """MLflow on PostgreSQL, with logins; this process and its children are logged in."""
    if lacking := Server.lacks():
        pytest.skip(f"{', '.join(lacking)} not installed (make test-cluster installs what it can)")
    pytest.importorskip("flask_wtf", reason="pip install 'codejoule[server]'")
    (place / "server").mkdir()
    found, before = Server(place / "server"), dict(os.environ)
    try:
        found.start()
        os.environ.update(found.env | {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"})
        yield found
    finally:
        os.environ.clear()
        os.environ.update(before)
        found.stop()


@pytest.fixture(scope="session")
def demo(server: Server, place: Path) -> Results:
    """What the basic launcher finds."""
    return _by_the_basic_launcher(place, "demo", DEMO)


@pytest.fixture(scope="session")
def long(server: Server, place: Path) -> Results:
    """What it finds in a sweep of jobs that take long enough to be killed meanwhile."""
    return _by_the_basic_launcher(place, "long", LONG)


def _by_the_basic_launcher(place: Path, name: str, sweep: tuple[str, ...]) -> Results:
    folder = place / name
    folder.mkdir()
    done = start(folder, name, *sweep).ended()
    assert done.returncode == 0, done.stdout
    return results(name)


@pytest.fixture(scope="module")
def slurm(place: Path) -> Iterator[Slurm]:
    """Slurm with accounting."""
    yield from _slurm(place / "slurm", accounting=True)


@pytest.fixture(scope="module")
def slurm_without_accounting(place: Path) -> Iterator[Slurm]:
    """Slurm as it is set up first."""
    yield from _slurm(place / "slurm-alone", accounting=False)


def _slurm(folder: Path, *, accounting: bool) -> Iterator[Slurm]:
    if lacking := missing(PROGRAMS + (ACCOUNTING if accounting else ())):
        pytest.skip(f"{', '.join(lacking)} not installed (make test-cluster installs what it can)")
    pytest.importorskip("submitit", reason="pip install 'codejoule[cluster]'")
    folder.mkdir()
    found = Slurm(folder, accounting=accounting)
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def ray_nodes(place: Path) -> Iterator[RayNodes]:
    """Ray on two nodes, and a head without jobs."""
    pytest.importorskip("ray", reason="pip install 'codejoule[ray]'")
    (place / "ray").mkdir()
    found = RayNodes(place / "ray", nodes=RAY_NODES)
    try:
        found.start()
        yield found
    finally:
        found.stop()
