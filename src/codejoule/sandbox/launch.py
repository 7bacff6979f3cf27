"""Start the sandbox's worker process: what it sees of this machine, all of it read-only, and
the code that it is handed."""

import json
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from codejoule.sandbox._inside.kernel import SANDBOX_ID
from codejoule.sandbox.interpreter import Interpreter

Step = dict[str, Any]
"""One step of building the root: ``kind`` and ``path``, and what the kind needs."""

_TMP_BYTES = 64 * 2**20
"""The worker's own /tmp; each program gets another, fresh one."""

_SHOWN = (
    "/usr", "/nix/store", "/gnu/store",
    "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives",
    "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/ca-certificates",
    "/etc/fonts", "/etc/mime.types", "/etc/magic", "/etc/protocols", "/etc/services",
)  # fmt: skip
_ETC_OF_A_HOST = ("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime")
_FONT_CACHES = "share/codejoule/matplotlib/fontlist-*.json"
_PARTS_OF_PREFIX = (
    "bin", "lib", "lib32", "lib64", "libexec", "include", "share", "etc", "nltk_data",
    "pyvenv.cfg",
)  # fmt: skip
"""An installation's own parts; its prefix may be a home directory, which stays hidden."""

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

_HOME = "/tmp/sandbox-home"
_PRIVATE = ("/tmp", "/dev/shm", "/var/tmp")
"""Where a program may write: empty, its own, and of limited size."""

_FILES = {
    "/etc/passwd": (
        "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n"
        f"sandbox:x:{SANDBOX_ID}:{SANDBOX_ID}:sandbox:/tmp/sandbox-home:/bin/sh\n"
    ),
    "/etc/group": f"root:x:0:\nsandbox:x:{SANDBOX_ID}:\n",
    "/etc/hosts": "127.0.0.1 localhost sandbox\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\n",
    "/etc/hostname": "sandbox\n",
}
_LINKS = {
    "/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}  # fmt: skip
_MODULES = (
    "messages", "kernel", "seccomp", "filesystem", "processes", "process_guards", "snapshot",
    "audit", "outcomes", "task_setup", "task", "init", "worker",
)  # fmt: skip
"""The code that is shipped inside, each module after those it imports."""

_BOOT = """\
import builtins, json, sys, types
sys.path[:] = [entry for entry in sys.path if entry]
with open({bundle}, "rb") as stream:
    bundle = json.load(stream)
package = types.ModuleType("codejoule_inside")
package.__path__ = []
sys.modules["codejoule_inside"] = package
for name, source in bundle["modules"]:
    module = types.ModuleType("codejoule_inside." + name)
    module.__package__ = "codejoule_inside"
    # Its own copy: whoever replaces a builtin changes nothing in there.
    module.__builtins__ = dict(vars(builtins))
    sys.modules[module.__name__] = module
    exec(compile(source, "codejoule_inside/" + name + ".py", "exec"), module.__dict__)
    setattr(package, name, module)
main, settings = package.worker.main, bundle["settings"]
del package, bundle, stream, module, name, source
main(settings, {socket})
"""


def environment_for(interpreter: Interpreter) -> dict[str, str]:
    """All variables that a program sees, besides HOME: none of ours among them."""
    folder = os.path.dirname(interpreter.executable)  # noqa: PTH120 (a path inside)
    data = {"NLTK_DATA": os.pathsep.join(data_paths())} if data_paths() else {}
    return {
        **data,
        "PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        # As upstream has them: the first keeps TensorFlow's sums in a fixed order.
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Sets of strings would be ordered differently in each worker, and verdicts with them.
        "PYTHONHASHSEED": "0",
    }


def launch(
    interpreter: Interpreter, *, preimport: Sequence[str], words: IO[bytes], folder: str | None
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a worker: the process to wait for (the worker itself may be a child of it), and our
    end of its socket, on which it greets us or says why it cannot. Its standard error goes to
    `words`. `folder` is where programs live without namespaces."""
    steps = plan_root(interpreter)
    bound = [step["source"] for step in steps if step["kind"] == "bind"]
    environment = environment_for(interpreter)
    settings = {
        "namespaces": folder is None,
        "steps": steps,
        "private": _PRIVATE,
        "exposed": exposed_paths(steps),
        "environment": environment,
        "must_read": interpreter.needed,
        "preimport": list(preimport),
        "home": _HOME if folder is None else f"{folder}/sample/home",
        # matplotlib's lists of fonts that were made together with the environment.
        "font_caches": sorted(map(str, Path(interpreter.prefixes[0]).glob(_FONT_CACHES))),
        "readable": [*bound, *_ETC_OF_A_HOST, "/proc"],
        "devices": _DEVICES,
    }
    ours, theirs = socket.socketpair()
    bundle = _in_memory(settings)
    boot = _BOOT.format(socket=theirs.fileno(), bundle=bundle)
    try:
        process = subprocess.Popen(
            [interpreter.executable, "-s", "-c", boot],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=words,
            pass_fds=[theirs.fileno(), bundle], start_new_session=True, env=environment, cwd="/",
        )  # fmt: skip
    finally:
        os.close(bundle)
        theirs.close()
    return process, ours


def _in_memory(settings: dict[str, Any]) -> int:
    """A file of the code and its settings that needs no path: our own folder may be closed to
    the worker's user."""
    folder = Path(__file__).parent / "_inside"
    sources = [(name, (folder / f"{name}.py").read_text(encoding="utf-8")) for name in _MODULES]
    fd = os.memfd_create("codejoule")
    with os.fdopen(fd, "w", encoding="utf-8", closefd=False) as file:
        json.dump({"modules": sources, "settings": settings}, file)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def plan_root(interpreter: Interpreter) -> list[Step]:
    """Steps that build the sandbox's root for `interpreter`; directories above are made as they
    are needed."""
    steps: dict[str, Step] = {}
    shown: set[str] = set()

    def add(kind: str, path: str, **more: Any) -> None:
        steps.setdefault(path, {"kind": kind, "path": path, **more})

    def show(path: str) -> None:
        """Show what lies at `path`, if anything: a link as a link, else bound read-only."""
        place = Path(path)
        if not shown.isdisjoint([path, *map(str, place.parents)]) or not place.exists():
            return
        shown.add(path)
        target = str(place.readlink()) if place.is_symlink() else "/"
        if target.startswith("/"):
            add("bind", path, source=str(place.resolve()))
        else:
            add("symlink", path, target=target)

    for path in ("/dev", *_PRIVATE):
        add("tmpfs", path, bytes=_TMP_BYTES)
    for path in _SHOWN:
        show(path)
    for path, text in _FILES.items():
        add("file", path, text=text)
    for path in _DEVICES:
        add("device", path)
    for path, target in _LINKS.items():
        add("symlink", path, target=target)
    for prefix in interpreter.prefixes:
        for part in _PARTS_OF_PREFIX:
            show(f"{prefix.rstrip('/')}/{part}")
    for path in (interpreter.executable, *data_paths()):
        show(path)
    add("proc", "/proc")
    return list(steps.values())


def data_paths() -> list[str]:
    """Folders of data that the user has named for NLTK, where they exist."""
    named = os.environ.get("NLTK_DATA", "").split(os.pathsep)
    return [str(Path(path).resolve()) for path in named if path and Path(path).is_dir()]


def exposed_paths(steps: list[Step]) -> list[str]:
    """Top directories of what `steps` shows below a path that each program gets afresh."""
    found = [
        f"{private}/{step['path'][len(private) + 1 :].split('/')[0]}"
        for step in steps
        for private in _PRIVATE
        if step["path"].startswith(private + "/") and step["kind"] in ("bind", "symlink")
    ]
    return list(dict.fromkeys(found))
