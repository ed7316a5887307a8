"""Who may write in a run's folder: a lock of the file system, or where it has none, a file in its place."""

import _thread
import errno
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdlib.training.processes import is_first

# What a file system answers that knows no locks.
_HAS_NONE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)

# Such a file is renewed three times in this time, and after it the process behind it counts as gone.
LEASE_SECONDS = 120.0

_MOUNTS = Path("/proc/mounts")
_told: set[str] = set()


class RunLock:
    """Keeps other processes out of a folder, on this machine and on those that share its file system.

    The system lets go of the lock when its process ends, in whatever way. On a network file system that has
    no locks, or keeps them to each machine, a file stands for the lock; when its process is killed, the next
    one takes over after `LEASE_SECONDS`.

    Args:
        folder: of the run; it has to be there.
    """

    def __init__(self, folder: Path) -> None:
        # Imported here because it takes asyncio along, which `import kdlib` should not.
        from filelock import FileLock

        self._folder = folder
        self._lock: Any = FileLock(folder / "lock", fallback_to_soft=False)
        if reason := why_not_shared(folder):
            self._stand_in(reason)

    def acquire(self, timeout: float) -> bool:
        """Wait for the lock, and return whether it is ours.

        Args:
            timeout: in seconds.
        """
        from filelock import Timeout

        try:
            self._lock.acquire(timeout=timeout, poll_interval=0.5)
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in _HAS_NONE:
                raise
            self._stand_in("has no file locks")
            return self.acquire(timeout)
        return True

    def release(self) -> None:
        self._lock.release()

    def _stand_in(self, reason: str) -> None:
        from filelock import SoftFileLease

        # Of another name: a file that was a lock would stay for ever, as nobody renews it.
        self._lock = SoftFileLease(
            self._folder / "lock.lease", lease_duration=LEASE_SECONDS, on_compromise=lambda _: self._lost()
        )
        root = str(self._folder.parents[1])
        if root not in _told and is_first():
            _told.add(root)
            print(
                f"{root}: the file system {reason}; files stand in for them, and the run of a process that "
                f"was killed is taken over {LEASE_SECONDS:.0f} seconds later.",
                file=sys.stderr,
                flush=True,
            )

    def _lost(self) -> None:
        print(
            f"{self._folder}: this process was away for too long, and another may have taken the run over; "
            "it stops here, and the same command goes on or waits.",
            file=sys.stderr,
            flush=True,
        )
        _thread.interrupt_main()


def why_not_shared(folder: Path, mounts: Path = _MOUNTS) -> str:
    """Why a lock in a folder would not be seen by other machines that have it; "" where it would.

    Args:
        folder: of whose file system the options are read.
        mounts: a table as Linux keeps it; where there is none, nothing is known, and "" returned.
    """
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    found = [line.split() for line in lines]
    places = {_unescaped(fields[1]): (fields[2], fields[3].split(",")) for fields in found if len(fields) > 3}
    inside = [place for place in places if folder.resolve().is_relative_to(place)]
    if not inside:
        return ""
    kind, options = places[max(inside, key=len)]
    local = _local(kind, options)
    return f"({kind}, {local}) keeps file locks to each machine" if local else ""


def _local(kind: str, options: Sequence[str]) -> str:
    """The option, or the kind of file system, that makes locks hold on one machine only; "" if none does."""
    by_kind = {
        "nfs": ("nolock", "local_lock=all", "local_lock=flock"),
        "nfs4": ("nolock", "local_lock=all", "local_lock=flock"),
        "lustre": ("localflock",),
        "cifs": ("nobrl",),
    }
    if kind == "fuse.sshfs":
        return "which has none of its own"
    return next((option for option in by_kind.get(kind, ()) if option in options), "")


def _unescaped(place: str) -> str:
    """A path as the table of mounts has it: blanks are in octal."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place)
