"""Pictures that stay in their files until somebody asks for them, and then in memory as far as it reaches."""

import hashlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdlib.data.decode import decode

# Of the machine's memory, what decoded pictures may take unless told otherwise.
_SHARE_OF_MEMORY = 0.25


class StreamedImages:
    """Square RGB pictures in files, as if they were a uint8 tensor (N, 3, size, size).

    A picture is decoded when it is first asked for, and kept while the memory budget lasts. The others are
    decoded again each time. What comes out does not depend on the budget.

    Args:
        paths: the files, in order.
        size: side in pixels to which each is resized, cut to the largest square in its middle.
        memory: bytes for decoded pictures; a quarter of the machine's memory if not given.

    Raises:
        ValueError: the memory is negative.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(self, paths: Sequence[Path], size: int, memory: int | None = None) -> None:
        self._store = _Store(list(paths), size, memory_budget(memory))
        self._rows = torch.arange(len(paths))

    @property
    def shape(self) -> torch.Size:
        size = self._store.size
        return torch.Size((len(self._rows), 3, size, size))

    @property
    def reserved(self) -> int:
        """Bytes that decoded pictures take when as many as may be are in memory."""
        return self._store.reserved

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """The pictures at these positions, uint8, on the CPU."""
        return self._store.read(self._rows[indices.cpu()].tolist())

    def subset(self, indices: Tensor) -> "StreamedImages":
        """The pictures at these positions, without reading them; both share what is in memory."""
        part = object.__new__(StreamedImages)
        part._store, part._rows = self._store, self._rows[indices]
        return part

    def fingerprint(self) -> "hashlib._Hash":
        """A hash of the files' bytes and the size: what the pictures are made from, with nothing decoded."""
        digest = hashlib.sha256(str(tuple(self.shape)).encode())
        for row in self._rows.tolist():
            digest.update(self._store.digest(row))
        return digest


class _Store:
    """The files, and those of their pictures that are in memory."""

    def __init__(self, paths: list[Path], size: int, memory: int) -> None:
        self.paths, self.size = paths, size
        capacity = min(len(paths), memory // (3 * size * size))
        # Pages of memory come when they are first written to, so that this takes none yet.
        self._pictures = torch.empty((capacity, 3, size, size), dtype=torch.uint8)
        self._places: dict[int, int] = {}
        self._digests: dict[int, bytes] = {}
        self._lock = threading.Lock()

    @property
    def reserved(self) -> int:
        """Bytes of the pictures that may be kept."""
        return self._pictures.nbytes

    def read(self, rows: list[int]) -> Tensor:
        """The pictures of these files."""
        missing = [row for row in dict.fromkeys(rows) if row not in self._places]
        decoded: dict[int, Tensor] = {}
        if missing:
            with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
                for row, picture in zip(missing, pool.map(self._decode, missing), strict=True):
                    decoded[row] = picture
                    self._keep(row, picture)
        return torch.stack(
            [decoded[row] if row in decoded else self._pictures[self._places[row]] for row in rows]
        )

    def digest(self, row: int) -> bytes:
        """A hash of one file's bytes."""
        if row not in self._digests:
            self._digests[row] = hashlib.sha256(self.paths[row].read_bytes()).digest()
        return self._digests[row]

    def _decode(self, row: int) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(decode(self.paths[row], self.size).transpose(2, 0, 1)))

    def _keep(self, row: int, picture: Tensor) -> None:
        with self._lock:
            place = len(self._places)
            if row not in self._places and place < len(self._pictures):
                self._pictures[place] = picture
                self._places[row] = place


def memory_budget(memory: int | None) -> int:
    """Bytes for decoded pictures: as many as were asked for, or else a quarter of the machine's memory.

    Raises:
        ValueError: a negative number was asked for, or none that is whole.
    """
    if memory is not None:
        if not isinstance(memory, int) or memory < 0:
            raise ValueError(f"memory is {memory!r}; give a number of bytes, 0 or more.")
        return memory
    try:
        there_is = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        there_is = 8 << 30  # Windows has no sysconf; most machines have this much
    # Processes that torchrun started here keep pictures of their own each.
    return int(_SHARE_OF_MEMORY * there_is) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
