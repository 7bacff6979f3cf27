"""A Slurm cluster of one node on this host's loopback, with or without accounting.

Its daemons run as whoever runs the tests, root or not, with sockets, keys and state in a folder of
their own; they meet no Slurm that this host may have."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

from tests.cluster.services import Services, free_port, listens

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db")
# Slurm takes character devices alone for GPUs, and numbers these 0 and 1.
_PRETENDED_GPUS = ("/dev/null", "/dev/zero")
_SBIN = "/usr/sbin"


def missing(programs: tuple[str, ...]) -> list[str]:
    """Those of `programs` that this host lacks."""
    return [name for name in programs if shutil.which(name, path=_path()) is None]


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), _SBIN])


class Slurm:
    """The cluster, running from `start` to `stop`."""

    def __init__(self, folder: Path, *, accounting: bool, cpus: int = 8) -> None:
        self.folder = folder
        self.accounting = accounting
        self.services = Services(folder)
        self._cpus = cpus
        self._user = pwd.getpwuid(os.getuid()).pw_name
        self._host = socket.gethostname().partition(".")[0]
        self._munge = folder / "munge.sock"
        self._conf = folder / "slurm.conf"

    @property
    def env(self) -> dict[str, str]:
        """What its commands need."""
        return {"SLURM_CONF": str(self._conf), "PATH": _path()}

    def command(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands; what it prints."""
        done = subprocess.run(
            command, env=os.environ | self.env, capture_output=True, text=True, timeout=30,
            check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise RuntimeError(f"{command}: {done.stdout}{done.stderr}\n{self.services.logs()}")
        return done.stdout

    def jobs(self, *columns: str) -> list[list[str]]:
        """The jobs that Slurm still has to do with, each element of an array by itself."""
        text = self.command("squeue", "-h", "-r", "-o", "|".join(columns))
        return [line.split("|") for line in text.splitlines()]

    def start(self) -> None:
        """Start all daemons and wait for a node that takes jobs."""
        (self.folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (self.folder / "munge.key").chmod(0o600)
        self._start_munge()
        ports = {name: free_port() for name in ("ctld", "d", "dbd", "maria")}
        if self.accounting:
            self._start_accounting(ports)
        self._configure(ports)
        self.services.start("slurmctld", [f"{_SBIN}/slurmctld", "-D", "-f", self._conf])
        self.services.wait_for("slurmctld", lambda: listens(ports["ctld"]))
        self.services.start("slurmd", [f"{_SBIN}/slurmd", "-D", "-f", self._conf])
        self.services.wait_for("a node", self._idle, within_s=90)

    def stop(self) -> None:
        """Cancel what still runs, and end all daemons."""
        try:
            self.command("scancel", "--signal=KILL", "--full", "-u", self._user, check=False)
            self.command("scancel", "-u", self._user, check=False)
            self.services.wait_for("no job", lambda: not self.jobs("%i"), within_s=40)
        except (subprocess.SubprocessError, RuntimeError):
            pass  # the daemons that are ended take their jobs along
        finally:
            self.services.stop()

    def _idle(self) -> bool:
        return "idle" in self.command("sinfo", "-h", "-o", "%T", check=False)

    def _start_munge(self) -> None:
        self.services.start(
            "munged",
            [f"{_SBIN}/munged", "--foreground", "--force", f"--socket={self._munge}",
             f"--key-file={self.folder}/munge.key", f"--pid-file={self.folder}/munged.pid",
             f"--seed-file={self.folder}/munged.seed", f"--log-file={self.folder}/munged.own.log"],
        )  # fmt: skip
        self.services.wait_for("munged", self._munge.exists)

    def _start_accounting(self, ports: dict[str, int]) -> None:
        data, maria = self.folder / "mariadb", self.folder / "maria.sock"
        user = [f"--user={self._user}"]
        self._quietly("mariadb-install-db", "--no-defaults", *user, f"--datadir={data}",
                      "--auth-root-authentication-method=normal")  # fmt: skip
        self.services.start(
            "mariadb",
            [f"{_SBIN}/mariadbd", "--no-defaults", *user, f"--datadir={data}",
             f"--socket={maria}", "--bind-address=127.0.0.1", f"--port={ports['maria']}",
             f"--pid-file={self.folder}/mariadb.pid", "--innodb-buffer-pool-size=64M"],
        )  # fmt: skip
        self.services.wait_for("mariadb", lambda: listens(ports["maria"]))
        self._quietly("mariadb", "--no-defaults", "-uroot", f"--socket={maria}", "-e",
                      "create user slurm@'127.0.0.1' identified by 'slurm';"
                      "create database accounting;"
                      "grant all on accounting.* to slurm@'127.0.0.1';")  # fmt: skip
        conf = self.folder / "slurmdbd.conf"
        conf.write_text(_lines({
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self._munge}",
            "DbdHost": "localhost",
            "DbdAddr": "127.0.0.1",
            "DbdPort": ports["dbd"],
            "SlurmUser": self._user,
            "PidFile": f"{self.folder}/slurmdbd.pid",
            "StorageType": "accounting_storage/mysql",
            "StorageHost": "127.0.0.1",
            "StoragePort": ports["maria"],
            "StorageUser": "slurm",
            "StoragePass": "slurm",
            "StorageLoc": "accounting",
        }))  # fmt: skip
        conf.chmod(0o600)
        self.services.start(
            "slurmdbd", [f"{_SBIN}/slurmdbd", "-D"], env=os.environ | {"SLURM_CONF": str(conf)}
        )
        self.services.wait_for("slurmdbd", lambda: listens(ports["dbd"]))

    def _configure(self, ports: dict[str, int]) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        settings: dict[str, Any] = {
            "ClusterName": "tests",
            "SlurmctldHost": f"{self._host}(127.0.0.1)",
            "SlurmctldPort": ports["ctld"],
            "SlurmdPort": ports["d"],
            "SlurmUser": self._user,
            "SlurmdUser": self._user,
            "AuthType": "auth/munge",
            # A job that is queued again waits until its earlier credential is no longer good.
            "AuthInfo": f"socket={self._munge},cred_expire=5",
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": self.folder / "spool",
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": self.folder / "slurmd.pid",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "MpiDefault": "none",
            "SwitchType": "switch/none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "SlurmdParameters": "config_overrides",
            "SchedulerParameters": "bf_interval=1,sched_min_interval=100000",
            "ReturnToService": 2,
            "KillWait": 30,
            "MinJobAge": 2 if not self.accounting else 300,
            "GresTypes": "gpu",
        }
        if self.accounting:
            settings |= {
                "AccountingStorageType": "accounting_storage/slurmdbd",
                "AccountingStorageHost": "127.0.0.1",
                "AccountingStoragePort": ports["dbd"],
                "AccountingStoragePass": self._munge,
                "AccountingStorageTRES": "gres/gpu",
                "JobAcctGatherType": "jobacct_gather/none",
            }
        node = (
            f"NodeName={self._host} NodeAddr=127.0.0.1 CPUs={self._cpus} RealMemory=4000 "
            f"Gres=gpu:{len(_PRETENDED_GPUS)} State=UNKNOWN\n"
            f"PartitionName=tests Nodes={self._host} Default=YES MaxTime=INFINITE State=UP\n"
        )
        self._conf.write_text(_lines(settings) + node)
        gres = "".join(f"Name=gpu File={device}\n" for device in _PRETENDED_GPUS)
        (self.folder / "gres.conf").write_text(gres)
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")

    def _quietly(self, *command: str) -> None:
        with (self.folder / "setup.log").open("ab") as log:
            subprocess.run(command, stdout=log, stderr=log, check=True, timeout=120)


def _lines(settings: dict[str, Any]) -> str:
    return "".join(f"{key}={value}\n" for key, value in settings.items())
