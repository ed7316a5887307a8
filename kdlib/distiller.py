"""`Distiller`: a student, a frozen teacher, and the weighted terms of the loss."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdlib.models.answers import Network, as_network, compute_logits, warn_of_probabilities
from kdlib.models.taps import (
    OverwrittenError,
    check_has_layers,
    embedding_path,
    find_module,
    tap,
    unwrapped,
)
from kdlib.models.trials import copied, untouched
from kdlib.terms import EMBEDDING, Example, Outputs, Term
from kdlib.terms.base import Layer, Maps

EvaluateTerms = Callable[[Sequence[Term], Outputs], dict[str, Tensor]]


class Objective(nn.Module):
    """What `kdlib.fit` trains: a student, perhaps its teacher, and a loss that says how well it does.

    Attributes:
        progress: how much of the run is done, 0 to 1, for weights that follow it.
    """

    student: nn.Module
    progress: float = 0.0
    _evaluate: EvaluateTerms | None = None

    @property
    def teacher(self) -> nn.Module | None:
        """The network whose answers the student's are compared with in an evaluation."""
        return None

    @property
    def students(self) -> Sequence[nn.Module]:
        """The networks that are trained on the images."""
        return [self.student]

    def train(self, mode: bool = True) -> Self:
        """Put all in training mode, but for batch norms that were put into evaluation mode by themselves.

        Such a one stays, with its statistics, where what it is a part of is in training mode. Others follow
        the images, also where their weights require no gradient.
        """
        held = [
            norm
            for network in self.students
            for part in network.modules()
            if part.training
            for norm in part.children()
            if isinstance(norm, _BatchNorm) and not norm.training
        ]
        super().train(mode)
        for norm in held:
            norm.eval()
        return self

    def connect(self, images: Tensor, seed: int = 0, train_labels: Tensor | None = None) -> Self:
        """Build what is trained besides the student; called before the optimiser is made.

        Args:
            images: a few, on the device of the networks.
            seed: of the first weights of what is built.
            train_labels: the class of every training image, in their order.
        """
        raise NotImplementedError

    def forward(
        self, images: Tensor, labels: Tensor, indices: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, and every term of it by name, before its weight."""
        raise NotImplementedError

    def evaluate(self, terms: Sequence[Term], outputs: Outputs) -> dict[str, Tensor]:
        """Every term by name, before its weight; of a share of a batch, its part of the whole's."""
        return (self._evaluate or evaluate_terms)(terms, outputs)

    @contextmanager
    def evaluating(self, evaluate: EvaluateTerms) -> Iterator[None]:
        """Have `evaluate` compute the terms meanwhile."""
        self._evaluate = evaluate
        try:
            yield
        finally:
            self._evaluate = None

    def describe(self) -> list[str]:
        """The terms as they are written, for a run record."""
        raise NotImplementedError


class _Reading(NamedTuple):
    """How the layers of a network are read.

    Attributes:
        paths: of the modules, by the terms' names for the layers.
        copy: a later layer overwrites what one of them gives out.
        nhwc: the layers whose maps are (N, H, W, C), and are turned.
    """

    paths: Mapping[Layer, str]
    copy: bool = False
    nhwc: frozenset[Layer] = frozenset()


class Distiller(Objective):
    """A student that learns from labels, from a frozen teacher, or from both.

    .. code-block:: python

        distiller = Distiller(student, teacher, [HardLabels(0.1), SoftTargets(0.9, temperature=4)])
        loss, terms = distiller(images, labels)

    The teacher is in evaluation mode at every step, records no gradient, follows the student to its device,
    and is neither among `parameters()` nor in `state_dict()`: a checkpoint holds what was trained.

    Terms on layers read both networks through hooks, which are there during a call only. Maps that a network
    keeps as (N, H, W, C), as Swin does, are turned to (N, C, H, W). Some terms train modules of their own, a
    regressor for instance. `connect` builds those; `kdlib.fit` calls it.

    Weights that follow the run are those at the attribute `progress`, 0 to 1. `kdlib.fit` sets it before
    every step; a loop of one's own has to, because at 0 a warm-up has the weight 0.

    Logits are a tensor, or what the output has as ``.logits`` or under the key "logits". At its first call a
    distiller warns where they look like probabilities.

    Args:
        student: the network that is trained.
        teacher: what is not: a network in whatever form, in half precision for instance, or any function from
            images to logits; terms on layers need a network. None for training on labels alone.
        terms: the summands of the loss, which are copied; names must differ.

    Raises:
        ValueError: there is no term, two have one name, a term needs the teacher that is missing or taps a
            layer that is not there, or student and teacher share weights.
    """

    def __init__(self, student: nn.Module, teacher: Network | None, terms: Sequence[Term]) -> None:
        super().__init__()
        if not isinstance(student, nn.Module):
            raise ValueError(f"the student is a {type(student).__name__}; give a network (an nn.Module).")
        _check_terms(terms, teacher)
        answering = None if teacher is None else as_network(teacher, "teacher")
        if answering is not None:
            _check_apart(student, answering)
        self.student = student
        # In a tuple, so that torch does not count the teacher among the trained modules.
        self._teacher = (answering,)
        # Copies, so that one list of terms serves several distillers and none has another's connectors.
        self.terms = nn.ModuleList(copied(term) or term for term in terms)
        pairs = [pair for term in terms for pair in term.pairs]
        _check_layers(student, [ours for ours, _ in pairs])
        _check_layers(answering, [theirs for _, theirs in pairs])
        self._reads_student = self._reads_teacher = _Reading({})
        self._is_connected = not any(term.pairs or term.has_connectors for term in terms)
        self._has_answered = False
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

    def connect(self, images: Tensor, seed: int = 0, train_labels: Tensor | None = None) -> Self:
        """Try both networks on a few images, and build what the terms train besides the student.

        To be called before the optimiser is made of `parameters()`; a second call does nothing.

        Args:
            images: a few, on the device of the networks.
            seed: of the connectors' initial weights; the global generator is left as it was.
            train_labels: the class of every training image, in their order, for a term that asks for them.

        Raises:
            ValueError: a tapped layer gives no tensor, or maps that a term cannot use.
        """
        if self._is_connected:
            return self
        pairs = [pair for term in self._terms() for pair in term.pairs]
        # In training mode, too, in which dropout overwrites.
        self._reads_student, logits, maps = _probe(
            self.student, images, [ours for ours, _ in pairs], modes=(True, False)
        )
        teacher_logits: Tensor | None = None
        teacher_maps: Maps = {}
        if self.teacher is not None:
            self._reads_teacher, teacher_logits, teacher_maps = _probe(
                self.teacher, images, [theirs for _, theirs in pairs]
            )
        example = Example(
            self.student, self.teacher, maps, teacher_maps, logits, teacher_logits, train_labels
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            connect_terms(self._terms(), example)
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
        if not self._is_connected:
            check_nothing_to_connect(self._terms())
            self.connect(images[:2])
        teacher_logits, teacher_maps = self._ask_teacher(images)
        student_logits, student_maps = _run(self.student, images, self._reads_student)
        check_classifier(student_logits)
        if not self._has_answered:
            self._has_answered = True
            warn_of_probabilities(student_logits, "student")
            if teacher_logits is not None and any(t.needs_teacher and not t.pairs for t in self._terms()):
                warn_of_probabilities(teacher_logits, "teacher")
        outputs = Outputs(student_logits, teacher_logits, labels, student_maps, teacher_maps, indices)
        values = self.evaluate(self._terms(), outputs)
        total = torch.stack(
            [term.weight_at(self.progress) * values[term.name] for term in self._terms()]
        ).sum()
        return total, values

    def teach(self, images: Tensor) -> Tensor | None:
        """The teacher's logits for these images, in evaluation mode and without gradient."""
        return self._ask_teacher(images)[0]

    @property
    def tapped_in_teacher(self) -> set[str]:
        """The paths of the teacher's layers that are read, once it is connected."""
        return set(self._reads_teacher.paths.values())

    def describe(self) -> list[str]:
        """The terms as they are written, for a run record."""
        return [repr(term) for term in self._terms()]

    def _ask_teacher(self, images: Tensor) -> tuple[Tensor | None, Maps]:
        if self.teacher is None:
            return None, {}
        # At every step, because anyone who holds the teacher may have put it back into training mode.
        self.teacher.eval()
        with torch.no_grad():
            return _run(self.teacher, images, self._reads_teacher)

    def _terms(self) -> list[Term]:
        return list(self.terms)  # type: ignore[arg-type]  # a ModuleList forgets what it holds

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        if self.teacher is not None:
            self.teacher._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self


def _check_layers(model: nn.Module | None, layers: Sequence[Layer]) -> None:
    """Raise ValueError where a layer cannot be read, as far as that shows before the network has run."""
    if model is None or not layers:
        return
    check_has_layers(model)
    paths = {str(layer) for layer in layers if not _is_embedding(layer, model)}
    if paths:
        tap(model, paths)  # refuses a path that names no module


def _is_embedding(layer: Layer, model: nn.Module) -> bool:
    """Whether this is `EMBEDDING`, or its name and the network has no module that is called so."""
    if layer != EMBEDDING.value:
        return layer is EMBEDDING
    try:
        find_module(model, EMBEDDING.value)
    except ValueError:
        return True
    return False


def _probe(
    model: nn.Module, images: Tensor, layers: Sequence[Layer], modes: Sequence[bool] = (False,)
) -> tuple[_Reading, Tensor, Maps]:
    """How layers are to be read, found out by a few images in these modes; logits and maps of the last."""
    model = unwrapped(model)  # of compiled layers nobody would see whether they are overwritten
    embeddings = [layer for layer in layers if _is_embedding(layer, model)]
    paths = {layer: str(layer) for layer in layers}
    paths |= dict.fromkeys(embeddings, embedding_path(model, images) if embeddings else "")
    pair = torch.cat([images, images])[: max(2, len(images))]  # batch norm cannot be trained on one
    copies = False
    for mode in modes:
        with untouched(model):
            try:
                logits, maps = _run(model.train(mode), pair, _Reading(paths, copies))
            except OverwrittenError:
                copies = True
                logits, maps = _run(model, pair, _Reading(paths, copies))
    nhwc = frozenset(layer for layer in paths if _is_channels_last(maps[layer], images))
    reading = _Reading(paths, copies, nhwc)
    return reading, logits, {layer: _to_nchw(maps[layer], layer in nhwc) for layer in paths}


def _is_channels_last(maps: Tensor, images: Tensor) -> bool:
    """Whether maps are (N, H, W, C): their sides are in the ratio of the images' there and not elsewhere."""
    if maps.ndim != 4 or images.ndim != 4:
        return False
    (first, second, third), (height, width) = maps.shape[1:], images.shape[2:]

    def are_sides(rows: int, columns: int) -> bool:
        return abs(rows * width - columns * height) < max(height, width)  # less than a pixel off

    return third > 1 and are_sides(first, second) and not are_sides(second, third)


def _to_nchw(maps: Tensor, is_channels_last: bool) -> Tensor:
    return maps.permute(0, 3, 1, 2) if is_channels_last else maps


def _run(model: nn.Module, images: Tensor, reading: _Reading) -> tuple[Tensor, Maps]:
    """A network's logits, and what its layers give out, by the terms' names for them."""
    paths = reading.paths
    if not paths:
        return compute_logits(model, images), {}
    # Two terms may have two names for one layer, which is tapped once.
    with tap(model, set(paths.values()), copy=reading.copy) as taps:
        logits = compute_logits(model, images)
    return logits, {layer: _to_nchw(taps[path], layer in reading.nhwc) for layer, path in paths.items()}


def check_classifier(logits: Tensor) -> None:
    """Raise ValueError unless these are the logits of a classifier."""
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"the student answers with shape {tuple(logits.shape)}; give a classifier whose logits are "
            "(N, C), with two classes or more."
        )


def _check_terms(terms: Sequence[Term], teacher: Network | None) -> None:
    if isinstance(terms, Term):
        raise ValueError(f"terms is {terms!r} alone; give a list, [{terms!r}].")
    if not terms:
        raise ValueError("a Distiller needs at least one term, such as HardLabels().")
    check_names(terms)
    taught = [term for term in terms if term.needs_teacher]
    if taught and teacher is None:
        raise ValueError(f"{taught[0]!r} needs a teacher, and none was given.")


def check_names(terms: Sequence[Term]) -> None:
    """Raise ValueError where two terms would be one in the record, or one would be something else there."""
    names = [term.name for term in terms]
    for term, name in zip(terms, names, strict=True):
        if names.count(name) > 1:
            raise ValueError(
                f"two terms have one name ({', '.join(names)}); give one of them another, "
                f"{term.maker}(…, name='{name} 2') for instance."
            )
        if not name or name == "loss" or name.startswith("test_"):
            raise ValueError(
                f"a term is called {name!r}; give it another name: curves call the total 'loss', and what is "
                "measured on the test images 'test_…'."
            )


def check_nothing_to_connect(terms: Sequence[Term]) -> None:
    """Raise ValueError at a term that has to be connected."""
    for term in terms:
        if term.has_connectors:
            raise ValueError(
                f"{term!r} trains modules that are not there yet; call distiller.connect(images) "
                "before the optimiser is made, so that it trains them too."
            )


def connect_terms(terms: Sequence[Term], example: Example) -> None:
    """Build what the terms train, where the networks' answers are."""
    for term in terms:
        term.connect(example)
        term.to(example.student_logits.device)


def evaluate_terms(terms: Sequence[Term], outputs: Outputs) -> dict[str, Tensor]:
    """Every term by name, before its weight, with a warning of a batch that is too small for one."""
    images = len(outputs.labels)
    for term in terms:
        if images < term.least_images:
            warnings.warn(
                f"{term!r} compares {term.least_images} images or more with one another and learns nothing "
                f"from a batch of {images}; give a larger batch_size.",
                stacklevel=2,
            )
    return {term.name: term(outputs) for term in terms}


def _check_apart(student: nn.Module, teacher: nn.Module) -> None:
    shared = count_shared_weights(student, teacher)
    if shared:
        raise ValueError(
            f"student and teacher share {shared} weight tensors, so training would move the teacher; "
            "give the teacher as copy.deepcopy(teacher)."
        )


def count_shared_weights(first: nn.Module, second: nn.Module) -> int:
    """How many pieces of memory hold weights of both networks."""
    ours, theirs = (
        {weight.untyped_storage().data_ptr() for weight in network.parameters() if weight.numel()}
        for network in (first, second)
    )
    return len(ours & theirs)
