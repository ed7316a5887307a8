"""Locks of runs where the file system has them, and where it has none."""

import errno
import fcntl
import subprocess
import sys
import time

import pytest

from kdlib.runs import locks
from kdlib.runs.locks import RunLock, why_not_shared

HOLD = """
import errno, fcntl, pathlib, sys, time
from kdlib.runs import locks
def refuse(*_): raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = refuse
locks.LEASE_SECONDS = float(sys.argv[2])
assert locks.RunLock(pathlib.Path(sys.argv[1])).acquire(0)
print("held", flush=True)
time.sleep(60)
"""


def wait(seconds):
    """In small pieces, as a training has them: one long sleep would not hear that it is to stop."""
    for _ in range(10 * seconds):
        time.sleep(0.1)


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "runs" / "0123456789ab" / "seed0"
    found.mkdir(parents=True)
    return found


@pytest.fixture
def lockless(monkeypatch):
    """A file system that has no locks, and files that stand for them for three seconds."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "LEASE_SECONDS", 3.0)
    monkeypatch.setattr(locks, "_told", set())


def test_one_holds_and_the_other_waits(folder):
    first, second = RunLock(folder), RunLock(folder)
    assert first.acquire(0)
    assert not second.acquire(0)
    first.release()
    assert second.acquire(0)
    second.release()


def test_without_locks_a_file_stands_in_and_one_sentence_says_so(folder, lockless, capsys):
    first, second = RunLock(folder), RunLock(folder)
    assert first.acquire(0)
    assert not second.acquire(0)
    (said,) = capsys.readouterr().err.splitlines()
    assert said == (
        f"{folder.parents[1]}: the file system has no file locks; files stand in for them, and the run of a "
        "process that was killed is taken over 3 seconds later."
    )
    first.release()
    assert second.acquire(0)
    second.release()


@pytest.mark.system
def test_the_file_of_a_killed_process_does_not_stay_for_ever(folder, lockless):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), "3"], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    lock = RunLock(folder)
    assert not lock.acquire(0), "while it lives"
    holder.kill()
    holder.communicate()
    assert lock.acquire(30)
    lock.release()


def test_who_lost_the_file_stops(folder, lockless, capsys):
    """As after a night's sleep, when another process has taken the run over."""
    lock = RunLock(folder)
    assert lock.acquire(0)
    (folder / "lock.lease").unlink()
    with pytest.raises(KeyboardInterrupt):
        wait(120)
    assert "this process was away for too long" in capsys.readouterr().err
    lock.release()


def test_another_error_is_no_lack_of_locks(folder, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        RunLock(folder).acquire(0)


@pytest.mark.parametrize(
    ("kind", "options", "why"),
    [
        ("nfs4", "rw,vers=4.2,local_lock=none", ""),
        ("nfs", "rw,nolock,vers=3", "(nfs, nolock) keeps file locks to each machine"),
        ("nfs", "rw,vers=3,local_lock=all", "(nfs, local_lock=all) keeps file locks to each machine"),
        ("lustre", "rw,flock", ""),
        ("lustre", "rw,localflock", "(lustre, localflock) keeps file locks to each machine"),
        ("fuse.sshfs", "rw", "(fuse.sshfs, which has none of its own) keeps file locks to each machine"),
        ("ext4", "rw", ""),
    ],
)
def test_locks_that_other_machines_do_not_see(tmp_path, kind, options, why):
    place = tmp_path / "shared disk"
    place.mkdir()
    mounts = tmp_path / "mounts"
    escaped = str(place).replace(" ", r"\040")
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {escaped} {kind} {options} 0 0\n")
    assert why_not_shared(place, mounts) == why
    assert why_not_shared(tmp_path, mounts) == ""
    assert why_not_shared(place, tmp_path / "none") == ""
