"""`Distiller`: a student, a frozen teacher, and the weighted terms of the loss."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from kdlib.models.taps import OverwrittenError, embedding_path, tap
from kdlib.terms import EMBEDDING, Example, Outputs, Term
from kdlib.terms.base import Maps


class Objective(nn.Module):
    """What `kdlib.fit` trains: a student, perhaps its teacher, and a loss that says how well it does."""

    student: nn.Module
    _collect: Callable[[Outputs], Outputs] | None = None

    @property
    def teacher(self) -> nn.Module | None:
        """The network whose answers the student's are compared with in an evaluation."""
        return None

    @property
    def learners(self) -> Sequence[nn.Module]:
        """The networks that are trained on the images."""
        return [self.student]

    def connect(self, images: Tensor, seed: int = 0) -> Self:
        """Build what is trained besides the student; called before the optimiser is made."""
        raise NotImplementedError

    def forward(
        self, images: Tensor, labels: Tensor, indices: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, and every term of it by name, before its weight.

        Both are computed from `collected` outputs, so that processes that share a batch have the same.
        """
        raise NotImplementedError

    def collected(self, outputs: Outputs) -> Outputs:
        """What the networks gave out for the whole batch, of which these images may be a share."""
        return outputs if self._collect is None else self._collect(outputs)

    @contextmanager
    def collecting(self, collect: Callable[[Outputs], Outputs]) -> Iterator[None]:
        """Get the outputs for the other shares of a batch from `collect` meanwhile."""
        self._collect = collect
        try:
            yield
        finally:
            self._collect = None

    def describe(self) -> list[str]:
        """The terms as they are written, for a run record."""
        raise NotImplementedError


class Distiller(Objective):
    """A student that learns from labels, from a frozen teacher, or from both.

    .. code-block:: python

        distiller = Distiller(student, teacher, [HardLabels(0.1), SoftTargets(0.9, temperature=4)])
        loss, terms = distiller(images, labels)

    The teacher is in evaluation mode at every step, records no gradient, follows the student to its device,
    and is neither among `parameters()` nor in `state_dict()`: a checkpoint holds what was trained.

    Terms on layers read both networks through hooks, which are there during a call only. Some of them train
    modules of their own, a regressor for instance. `connect` builds those; `kdlib.fit` calls it.

    Args:
        student: the network that is trained.
        teacher: the network that is not; None for training on labels alone.
        terms: the summands of the loss, which are copied; names must differ.

    Raises:
        ValueError: there is no term, two have one name, a term needs the teacher that is missing or taps a
            layer that is not there, or student and teacher share weights.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module | None, terms: Sequence[Term]) -> None:
        super().__init__()
        _check_terms(terms, teacher)
        if teacher is not None:
            _check_apart(student, teacher)
        self.student = student
        # In a tuple, so that torch does not count the teacher among the trained modules.
        self._teacher = (teacher,)
        # Copies, so that one list of terms serves several distillers and none has another's connectors.
        self.terms = nn.ModuleList(copy.deepcopy(term) for term in terms)
        self._student_layers = _resolve(student, [ours for term in terms for ours, _ in term.pairs])
        self._teacher_layers = _resolve(teacher, [theirs for term in terms for _, theirs in term.pairs])
        self._copies_student = self._copies_teacher = False
        self._is_connected = False
        self.train()

    @property
    def teacher(self) -> nn.Module | None:
        return self._teacher[0]

    @contextmanager
    def taught_by(self, teacher: nn.Module) -> Iterator[None]:
        """Put another network in the teacher's place meanwhile, such as a faster copy of it."""
        own, self._teacher = self._teacher, (teacher,)
        try:
            yield
        finally:
            self._teacher = own

    def connect(self, images: Tensor, seed: int = 0) -> Self:
        """Try both networks on a few images, and build what the terms train besides the student.

        To be called before the optimiser is made of `parameters()`; a second call does nothing.

        Args:
            images: a few, on the device of the networks.
            seed: of the connectors' initial weights; the global generator is left as it was.

        Raises:
            ValueError: a tapped layer gives no tensor, or maps that a term cannot use.
        """
        if self._is_connected or not self._student_layers:
            return self
        was_training = self.student.training
        self.student.eval()
        with torch.no_grad():
            self._copies_student = _overwrites(self.student, images, self._student_layers)
            student_maps = _run(self.student, images, self._student_layers, self._copies_student)[1]
            assert self.teacher is not None, "a term on layers needs a teacher"
            self._copies_teacher = _overwrites(self.teacher.eval(), images, self._teacher_layers)
            example = Example(self.student, self.teacher, student_maps, self._taught(images)[1])
        self.student.train(was_training)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for term in self._terms():
                term.connect(example)
        self.terms.to(images.device)
        self._is_connected = True
        return self

    def forward(
        self, images: Tensor, labels: Tensor, indices: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted total, and every term by name, before its weight.

        Args:
            images: what both networks take, (N, in_channels, H, W).
            labels: class indices, (N,).
            indices: which images of the training set these are, (N,), for a term that remembers them.

        Raises:
            ValueError: a term's connectors have not been built yet, the student knows one class only, or a
                loss refuses what it is given.
        """
        if self._student_layers and not self._is_connected:
            self._check_nothing_to_connect()
            self.connect(images[:2])
        teacher_logits, teacher_maps = self._taught(images)
        student_logits, student_maps = _run(self.student, images, self._student_layers, self._copies_student)
        check_classes(student_logits)
        outputs = self.collected(
            Outputs(student_logits, teacher_logits, labels, student_maps, teacher_maps, indices)
        )
        terms = {term.name: term(outputs) for term in self._terms()}
        total = torch.stack([term.weight * terms[term.name] for term in self._terms()]).sum()
        return total, terms

    def teach(self, images: Tensor) -> Tensor | None:
        """The teacher's logits for these images, in evaluation mode and without gradient."""
        return self._taught(images)[0]

    def describe(self) -> list[str]:
        """The terms as they are written, for a run record."""
        return [repr(term) for term in self._terms()]

    def _taught(self, images: Tensor) -> tuple[Tensor | None, Maps]:
        if self.teacher is None:
            return None, {}
        # At every step, because anyone who holds the teacher may have put it back into training mode.
        self.teacher.eval()
        with torch.no_grad():
            return _run(self.teacher, images, self._teacher_layers, self._copies_teacher)

    def _check_nothing_to_connect(self) -> None:
        waiting = [term for term in self._terms() if term.has_connectors]
        if waiting:
            raise ValueError(
                f"{waiting[0]!r} trains modules that are not there yet; call distiller.connect(images) "
                "before the optimiser is made, so that it trains them too."
            )

    def _terms(self) -> list[Term]:
        return list(self.terms)  # type: ignore[arg-type]  # a ModuleList forgets what it holds

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        if self.teacher is not None:
            self.teacher._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self


def _resolve(model: nn.Module | None, names: Sequence[str]) -> dict[str, str]:
    """The module path that each of the terms' names for a layer means; a path means itself."""
    if model is None:
        return {}
    paths = {name: embedding_path(model) if name == EMBEDDING else name for name in names}
    if paths:
        tap(model, set(paths.values()))  # refuses a path that names no module
    return paths


def _run(model: nn.Module, images: Tensor, paths: Mapping[str, str], copy: bool) -> tuple[Tensor, Maps]:
    """A network's logits, and what its layers give out, by the terms' names for them."""
    if not paths:
        return model(images), {}
    # Two terms may have two names for one layer, which is tapped once.
    with tap(model, set(paths.values()), copy=copy) as taps:
        logits = model(images)
    return logits, {name: taps[path] for name, path in paths.items()}


def _overwrites(model: nn.Module, images: Tensor, paths: Mapping[str, str]) -> bool:
    """Whether a later layer writes over what a tapped one gave out, so that it has to be copied."""
    try:
        _run(model, images, paths, copy=False)
    except OverwrittenError:
        return True
    return False


def check_classes(logits: Tensor) -> None:
    """Raise ValueError unless these are the logits of a classifier."""
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"the student answers with shape {tuple(logits.shape)}; give a classifier whose logits are "
            "(N, C), with two classes or more."
        )


def _check_terms(terms: Sequence[Term], teacher: nn.Module | None) -> None:
    if not terms:
        raise ValueError("a Distiller needs at least one term, such as HardLabels().")
    check_names(terms)
    taught = [term for term in terms if term.needs_teacher]
    if taught and teacher is None:
        raise ValueError(f"{taught[0]!r} needs a teacher, and none was given.")


def check_names(terms: Sequence[Term]) -> None:
    """Raise ValueError where two terms would be one in the record."""
    names = [term.name for term in terms]
    if len(set(names)) < len(names):
        raise ValueError(f"two terms have one name ({', '.join(names)}); give each kind of term once.")


def _check_apart(student: nn.Module, teacher: nn.Module) -> None:
    shared = shared_weights(student, teacher)
    if shared:
        raise ValueError(
            f"student and teacher share {shared} weight tensors, so training would move the teacher; "
            "give the teacher as copy.deepcopy(teacher)."
        )


def shared_weights(first: nn.Module, second: nn.Module) -> int:
    """How many pieces of memory hold weights of both networks."""
    ours, theirs = (
        {weight.untyped_storage().data_ptr() for weight in network.parameters() if weight.numel()}
        for network in (first, second)
    )
    return len(ours & theirs)
