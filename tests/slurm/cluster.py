"""A Slurm of one node that listens on this machine alone: munged, slurmctld and slurmd with files of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "setpriv")
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
SlurmdParameters=config_overrides
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_min_interval=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why no Slurm can be started here; None if one can."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"{', '.join(absent)} not found: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "Slurm's daemons need root"


class Cluster:
    """Daemons of a one-node cluster in `folder`. `SLURM_CONF` in the environment makes its commands use this one."""

    def __init__(self, folder: Path, cpus: int = 3):
        self.folder = folder
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        host = socket.gethostname().split(".")[0]
        ctld, slurmd = _free_ports(2)
        self.conf = folder / "slurm.conf"
        self.conf.write_text(CONF.format(host=host, ctld=ctld, slurmd=slurmd, folder=folder, cpus=cpus))
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        self.daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        own = {"socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed", "log-file": "munge.log"}
        words = [f"--{option}={self.folder / name}" for option, name in own.items()]
        self._run("munged", "--foreground", "--force", f"--key-file={key}", *words)
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._run("slurmctld", "-D", "-c")
        self._run("slurmd", "-D")
        self._wait(lambda: self.call("sinfo", "-h", "-o", "%T").strip() == "idle", "the node")

    def _run(self, *words: str) -> None:
        with open(self.folder / f"{words[0]}.out", "wb") as log:
            own = {"env": self.environment, "stdout": log, "stderr": log}
            # A killed test run leaves no daemon behind.
            words = ("setpriv", "--pdeathsig", "TERM", *words)
            self.daemons.append(subprocess.Popen(words, start_new_session=True, **own))

    def _wait(self, holds, what: str) -> None:
        end = time.monotonic() + 30
        while not holds():
            if time.monotonic() > end or any(d.poll() is not None for d in self.daemons):
                logs = "\n".join(
                    f"{p.name}: {p.read_text(errors='replace')[-1500:]}"
                    for p in sorted(self.folder.glob("*.*o*g"))
                    if p.is_file()
                )
                raise RuntimeError(f"{what} did not start\n{logs}")
            time.sleep(0.1)

    def call(self, *words: str) -> str:
        """The output of a Slurm command; empty if it fails."""
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False).stdout

    def __exit__(self, *error: object) -> None:
        self.call("scancel", "--user=root")
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
