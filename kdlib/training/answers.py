"""A teacher's answers, kept: one seed shows every run the same pictures, and a frozen teacher says the same.

A grid over weights, temperatures or methods on logits asks one teacher the same question in each of its runs.
With ``fit(…, answers=FOLDER)`` the first run keeps the logits and the others read them, to the same bits. For
each teacher, seed and division into batches there is a folder, and in it a file for each epoch.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.data import Split
from kdlib.distiller import Distiller, Objective
from kdlib.models.answers import Function, compute_logits
from kdlib.models.controls import generators
from kdlib.paths import given_path
from kdlib.terms import Term
from kdlib.training import distributed
from kdlib.training.environment import environment
from kdlib.training.state import fingerprint, load_tensors, save_tensors

# Bytes of all answers in one folder; the sets that were used longest ago go.
LIMIT = 4 << 30


def cannot_be_kept(objective: nn.Module, train: object, batch_transform: object = None) -> str | None:
    """Why the teacher has to be asked at every step; None where its answers can be kept."""
    if not isinstance(objective, Distiller) or objective.teacher is None:
        return "there is no teacher"
    if any(term.pairs for term in objective.terms if isinstance(term, Term)):
        return "a term reads the teacher's layers, of which only logits are kept"
    if isinstance(objective.teacher, Function):
        return "the teacher is a function, which nothing tells from another one"
    if any(True for _ in generators(objective.teacher)):
        return "the teacher draws random numbers"
    if not isinstance(train, Split):
        return "the batches are given, and what is in them is not known before"
    if batch_transform is not None:
        return "batch_transform draws what the teacher is shown"
    if distributed.world_size() > 1:
        return "several processes have a part of the answers each"
    return None


class Answers:
    """The answers of one teacher in one run, and in others that show it the same.

    Args:
        root: the folder of all answers.
        teacher: the network as it was given.
        shown: what decides, besides the teacher, what it is asked, and how it is computed.
    """

    def __init__(self, root: str | os.PathLike[str], teacher: nn.Module, shown: Mapping[str, Any]) -> None:
        self.root = given_path(root, "folder")
        self._identity = {**shown, "teacher": fingerprint(teacher), "network": repr(teacher)}

    @contextmanager
    def kept(
        self, objective: Objective, images: int, epoch: Callable[[], int], is_compiled: bool
    ) -> Iterator[None]:
        """Have the objective ask its teacher only for what is not known.

        Args:
            objective: which gives the positions of the images with each batch.
            images: how many there are.
            epoch: the number of the epoch under way.
            is_compiled: whether the teacher is compiled, with other last digits.
        """
        teacher = objective.teacher
        assert isinstance(objective, Distiller) and teacher is not None, "see `cannot_be_kept`"  # noqa: PT018
        device = next(objective.parameters()).device
        computed = environment(device)
        versions = {name: computed[name] for name in ("torch", "code", "device", "processor", "threads")}
        identity = json.dumps([self._identity, versions, is_compiled], sort_keys=True)
        folder = self.root / hashlib.sha256(identity.encode()).hexdigest()[:16]
        kept = _Kept(teacher, folder, images, epoch)
        hook = objective.register_forward_pre_hook(kept.see)
        try:
            with objective.taught_by(kept):
                yield
        finally:
            hook.remove()
            if folder.is_dir():
                os.utime(folder)
            _make_room(self.root, spared=folder)


class _Kept(nn.Module):
    """In the teacher's place: it asks the teacher for the answers of an epoch once.

    An epoch that a run was stopped in has not all of its answers, and is asked for anew by the next run.
    """

    def __init__(self, teacher: nn.Module, folder: Path, images: int, epoch: Callable[[], int]) -> None:
        super().__init__()
        # In a tuple, so that its weights are not taken for this module's, and images are not cast.
        self._teacher = (teacher,)
        self._folder, self._images, self._epoch = folder, images, epoch
        self._turned_to = -1
        self._answers: Tensor | None = None
        self._is_complete = False
        self._asked = 0
        self._indices = torch.empty(0)

    def see(self, _objective: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Before the networks are asked: which images these are."""
        self._indices = inputs[2]
        if self._turned_to != self._epoch():
            self._turn_to(self._epoch(), inputs[0].device)

    def forward(self, images: Tensor) -> Tensor:
        if self._is_complete and self._answers is not None:
            return self._answers[self._indices]
        (teacher,) = self._teacher
        answers = compute_logits(teacher.eval(), images)
        if self._answers is None:
            self._answers = answers.new_empty(self._images, *answers.shape[1:])
        self._answers[self._indices] = answers
        # Counted, and not looked up: each image comes once in an epoch, and a GPU would be waited for.
        self._asked += len(images)
        if self._asked == self._images:
            save_tensors(self._file, {"logits": self._answers}, {"epoch": self._turned_to})
            self._is_complete = True
        return answers

    @property
    def _file(self) -> Path:
        return self._folder / f"epoch-{self._turned_to:04d}.safetensors"

    def _turn_to(self, epoch: int, device: torch.device) -> None:
        self._turned_to = epoch
        self._asked = 0
        self._is_complete = self._file.is_file()
        self._answers = load_tensors(self._file)[0]["logits"].to(device) if self._is_complete else None


def _make_room(root: Path, spared: Path) -> None:
    """Remove what was used longest ago, until the rest is within the limit."""
    if not root.is_dir():
        return
    sizes = {
        folder: sum(file.stat().st_size for file in folder.iterdir())
        for folder in root.iterdir()
        if folder.is_dir() and folder != spared
    }
    total = sum(sizes.values())
    for folder in sorted(sizes, key=lambda folder: folder.stat().st_mtime):
        if total <= LIMIT:
            break
        total -= sizes[folder]
        shutil.rmtree(folder, ignore_errors=True)
