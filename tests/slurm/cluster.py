"""A Slurm of one node that listens on this machine alone: munged, slurmctld and slurmd with files of their own."""

import os
import shutil
import socket
import subprocess

import psutil
from conftest import free_port, wait_until

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
NodeName={host} NodeAddr=127.0.0.1 CPUs=3 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Why no Slurm can be started here; None if one can."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"{', '.join(absent)} not found: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "Slurm's daemons need root"


class Cluster:
    """Daemons of a one-node cluster in `folder`. `SLURM_CONF` in the environment makes its commands use this one."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        host = socket.gethostname().split(".")[0]
        ctld, slurmd = free_port(), free_port()
        self.conf = folder / "slurm.conf"
        self.conf.write_text(CONF.format(host=host, ctld=ctld, slurmd=slurmd, folder=folder))
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        self.daemons = []

    def start(self):
        """Start the daemons and wait until the node is idle."""
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        words = [f"--key-file={key}"]
        for option, name in (("socket", "socket"), ("pid-file", "pid"), ("seed-file", "seed"), ("log-file", "log")):
            words.append(f"--{option}={self.folder / f'munge.{name}'}")
        self._run("munged", "--foreground", "--force", *words)
        wait_until((self.folder / "munge.socket").exists, 30)
        self._run("slurmctld", "-D", "-c")
        self._run("slurmd", "-D")
        wait_until(lambda: self.call("sinfo", "-h", "-o", "%T").strip() == "idle", 30, 0.1)

    def _run(self, *words):
        """Start a daemon, which ends with this process."""
        with open(self.folder / f"{words[0]}.out", "wb") as log:
            words = ("setpriv", "--pdeathsig", "TERM", *words)
            own = {"env": self.environment, "stdout": log, "stderr": log, "start_new_session": True}
            self.daemons.append(psutil.Popen(words, **own))

    def call(self, *words):
        """The output of a Slurm command; empty if it fails."""
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False).stdout

    def stop(self):
        """End the daemons."""
        self.call("scancel", "--user=root")
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in psutil.wait_procs(self.daemons, 10)[1]:
            daemon.kill()
            daemon.wait()
