"""A family of recipes that train in a second, a store of the test's own, and a Slurm of one node."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

MORE = """
[singles.long-teacher]
seeds = [100]
training = {epochs = 250}

[singles.taught-again]
teacher = "made/teacher@100"
terms = [{kind = "HardLabels"}, {kind = "SoftTargets", temperature = 4.0}]

[singles.taught-long]
teacher = "made/long-teacher@100"
terms = [{kind = "HardLabels"}, {kind = "SoftTargets", temperature = 4.0}]
"""

_NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")


@pytest.fixture(autouse=True)
def places(make_places, tmp_path, monkeypatch):
    """Recipes, runs and results of this test alone."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # Snakemake's own cache is in the user's folder.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return make_places([0], MORE)


@pytest.fixture
def slurm(lacking, monkeypatch):
    """Slurm's controller and one node on the loopback of this machine; the commands find them."""
    paths = os.environ["PATH"] + os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
    missing = [name for name in _NEEDED if shutil.which(name, path=paths) is None]
    if missing:
        lacking("slurm", f"no {' or '.join(missing)} here: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        lacking("slurm", "Slurm's controller and node are started as root")
    # A socket's path has to be short.
    folder = Path(f"/tmp/kdlib-slurm-{os.getpid()}")
    folder.mkdir(mode=0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{paths}")
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    try:
        _configure(folder)
        _start(folder)
        yield folder
    finally:
        _stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder):
    for name in ("munge", "state", "spool", "bin"):
        (folder / name).mkdir(mode=0o700)
    (folder / "munge/key").write_bytes(os.urandom(1024))
    (folder / "munge/key").chmod(0o400)
    host = socket.gethostname().split(".")[0]
    ports = [_free_port() for _ in range(2)]
    (folder / "slurm.conf").write_text(f"""
ClusterName=kdlib
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory=8000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
""")
    # Within a job Snakemake takes every variable away that begins with SLURM_, and srun would look for the
    # configuration in /etc.
    srun = folder / "bin/srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec /usr/bin/srun "$@"\n')
    srun.chmod(0o755)


def _start(folder):
    munge = folder / "munge"
    files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
    files.append(f"--socket={munge / 'socket'}")
    subprocess.run(["munged", "--force", *files], check=True, capture_output=True)
    for name in ("slurmctld", "slurmd"):
        log = str(folder / f"{name}.log")
        subprocess.run([name, "-f", str(folder / "slurm.conf"), "-L", log], check=True, capture_output=True)
    for _ in range(100):
        state = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True)
        if state.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    pytest.fail(f"Slurm did not start: {state}\n{(folder / 'slurmctld.log').read_text()[-2000:]}")


def _stop(folder):
    """End jobs first: their shepherds outlive the daemons."""
    subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=20)
    for _ in range(50):
        queue = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True)
        if not queue.stdout.strip():
            break
        time.sleep(0.2)
    for file in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
        if (folder / file).is_file():
            try:
                os.kill(int((folder / file).read_text()), signal.SIGTERM)
            except (ProcessLookupError, ValueError):
                continue
    time.sleep(0.5)


def _free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
