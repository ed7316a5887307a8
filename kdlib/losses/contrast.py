"""Contrastive representation distillation: the same image is near, images of other classes are far."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.losses.inputs import (
    check_finite,
    check_form,
    check_matrix,
    check_same_shape,
    check_temperature,
    full_precision,
)
from kdlib.losses.vectors import inner_products, unit_length


class ContrastMemory(nn.Module):
    """One embedding per training image of the student's and of the teacher's, as they last were.

    `crd_loss` takes its negatives from here, and in training mode brings the rows of its batch up to date, as
    batch norm does its statistics; call `eval()` to keep the memory as it is. It has no parameters. It needs
    2 · size · width numbers: 51 MB for CIFAR's 50 000 images at width 128.

    Args:
        size: number of training images.
        width: D, length of an embedding, 2 or more.
        negatives: K, how many other images each image is compared with.
        momentum: share of the old embedding that stays at an update, 0 up to but not including 1.
        labels: the class of every training image, int64, shape (size,): negatives then come from other
            classes, as in the authors' CIFAR code. Without, they are any other images.
        generator: for the random embeddings that the memory starts from.

    Raises:
        ValueError: a number is out of range, or the labels leave no negatives.
    """

    student_bank: Tensor
    teacher_bank: Tensor
    log_normalisers: Tensor
    order: Tensor
    class_start: Tensor
    class_size: Tensor

    def __init__(
        self,
        size: int,
        width: int = 128,
        negatives: int = 16384,
        momentum: float = 0.5,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        # One number of length 1 is ±1, whatever it was.
        for name, number, least in (("size", size, 1), ("width", width, 2), ("negatives", negatives, 1)):
            if number < least:
                raise ValueError(f"{name} is {number}; give {least} or more.")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}; give a share of at least 0 and below 1.")
        self.size, self.width, self.negatives, self.momentum = size, width, negatives, momentum
        bound = math.sqrt(3 / width)  # rows of length 1 on average
        for bank in ("student_bank", "teacher_bank"):
            self.register_buffer(bank, bound * (2 * torch.rand(size, width, generator=generator) - 1))
        self.register_buffer("log_normalisers", torch.full((2,), torch.nan))
        self._index(torch.arange(size) if labels is None else labels)

    def _index(self, labels: Tensor) -> None:
        """Sort the images by class: each image then has to skip one run of them."""
        if labels.shape != (self.size,) or labels.dtype != torch.int64:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)} and type {labels.dtype}; "
                f"give the classes of all {self.size} training images, type torch.int64."
            )
        classes, of_class, counts = labels.cpu().unique(return_inverse=True, return_counts=True)
        if len(classes) < 2:
            raise ValueError("all training images are of one class; CRD needs another one for its negatives.")
        self.register_buffer("order", labels.cpu().argsort(stable=True), persistent=False)
        self.register_buffer("class_start", (counts.cumsum(0) - counts)[of_class], persistent=False)
        self.register_buffer("class_size", counts[of_class], persistent=False)

    def draw(self, indices: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Each image itself, then K images of other classes with replacement: indices of shape (N, 1 + K)."""
        start, own = self.class_start[indices, None], self.class_size[indices, None]
        draws = torch.randint(
            2**62, (len(indices), self.negatives), generator=generator, device=indices.device
        )
        draws = draws % (self.size - own)
        draws = draws + own * (draws >= start)
        return torch.cat([indices[:, None], self.order[draws]], dim=1)

    def scores(self, embeddings: Tensor, bank: Tensor, drawn: Tensor) -> Tensor:
        """Inner products of N embeddings with the rows of `bank` that were drawn for each, (N, 1 + K)."""
        # Whichever is smaller: the products with the whole bank, or the rows that were drawn.
        if self.size <= drawn.shape[1] * self.width:
            return inner_products(embeddings, bank).gather(1, drawn)
        return inner_products(embeddings[:, None], bank[drawn])[:, 0]

    @torch.no_grad()
    def update(self, student: Tensor, teacher: Tensor, indices: Tensor) -> None:
        """Move the rows `indices` towards these embeddings of length 1."""
        for name, new in (("student_bank", student), ("teacher_bank", teacher)):
            bank = getattr(self, name)
            rows = unit_length(self.momentum * bank[indices] + (1 - self.momentum) * new, dim=1)
            # A new tensor, because the backward pass still needs the old one.
            setattr(self, name, bank.index_copy(0, indices, rows))


def crd_loss(
    student_embeddings: Tensor,
    teacher_embeddings: Tensor,
    indices: Tensor,
    memory: ContrastMemory,
    temperature: float = 0.07,
    form: str = "code",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Tell the same image's embedding from K others', student against teacher and teacher against student.

    .. math:: -\frac{1}{N} \sum_n \Bigl[ \log h(s_n, t_n) + \sum_{k=1}^{K} \log (1 - h(s_n, t_{nk})) \Bigr]
        + \text{the same with s and t exchanged}, \quad
        h(s, t) = \frac{e^{\langle s, t \rangle / T} / Z}{e^{\langle s, t \rangle / T} / Z + K / M}

    Embeddings are scaled to length 1 here; the others' come from the memory of all M training images. Both
    sides pass a gradient, to the linear layers that embed student and teacher. In training mode the memory is
    updated after. N = 1 is a batch like any other.

    Args:
        student_embeddings: shape (N, D).
        teacher_embeddings: shape (N, D).
        indices: which training images these are, int64, shape (N,), none of them twice.
        memory: of the whole training set.
        temperature: T, above 0.
        form: "code" (default): Z is M times the mean of exp(⟨·,·⟩/T) over the first batch and its draws, once
            for each side, then kept in the memory, so that exp(⟨·,·⟩/T) / Z is about a probability over the M
            images. "paper" has no Z (Z = 1). The published weight 0.8 belongs to "code".
        generator: for the negatives, on the device of `indices`; without, PyTorch's own.

    Returns:
        A scalar in nats; computed in float32 at least, from logarithms, without the code's 1e-7.

    Raises:
        ValueError: shapes do not match each other or the memory, an index is out of range, the temperature is
            not above 0, the form is unknown, or an embedding is NaN or infinite.

    Reference:
        Tian, Krishnan and Isola, "Contrastive Representation Distillation", 2020, section 3.1; code:
        github.com/HobbitLong/RepDistiller, which draws negatives without replacement.
    """
    _check_embeddings(student_embeddings, teacher_embeddings, indices, memory)
    check_temperature(temperature)
    check_form(form)
    student, teacher = (
        unit_length(full_precision(embeddings).to(memory.student_bank.dtype), dim=1)
        for embeddings in (student_embeddings, teacher_embeddings)
    )
    drawn = memory.draw(indices, generator)
    scores = torch.stack(
        [
            memory.scores(student, memory.teacher_bank, drawn),
            memory.scores(teacher, memory.student_bank, drawn),
        ]
    )
    scores = scores / temperature
    if form == "code":
        normalisers = _log_normalisers(scores, memory)
        scores = scores - normalisers[:, None, None]
    log_odds = scores - math.log(memory.negatives / memory.size)
    # −log h = softplus(−log odds), −log (1 − h) = softplus(log odds)
    loss = (F.softplus(-log_odds[..., 0]) + F.softplus(log_odds[..., 1:]).sum(dim=2)).sum(dim=0).mean()
    check_finite(loss, "embeddings", student=student_embeddings, teacher=teacher_embeddings)
    if memory.training:
        memory.update(student, teacher, indices)
        if form == "code":
            memory.log_normalisers = normalisers
    return loss


def _log_normalisers(scores: Tensor, memory: ContrastMemory) -> Tensor:
    """log Z of both sides, shape (2,): the memory's, or this batch's estimate while it has none."""
    flat = scores.detach().flatten(1)
    estimate = flat.logsumexp(dim=1) + math.log(memory.size / flat.shape[1])
    return torch.where(memory.log_normalisers.isnan(), estimate, memory.log_normalisers)


def _check_embeddings(student: Tensor, teacher: Tensor, indices: Tensor, memory: ContrastMemory) -> None:
    check_matrix("student", student, "embeddings")
    check_matrix("teacher", teacher, "embeddings")
    check_same_shape(student, teacher)
    if student.shape[1] != memory.width:
        raise ValueError(
            f"embeddings have width {student.shape[1]} and the memory {memory.width}; make them equal."
        )
    if indices.dtype != torch.int64 or indices.shape != student.shape[:1]:
        raise ValueError(
            f"indices have shape {tuple(indices.shape)} and type {indices.dtype}; "
            f"give {student.shape[0]} positions in the training set, type torch.int64."
        )
    if indices.device.type == "cpu" and not torch.compiler.is_compiling():
        outside = indices[(indices < 0) | (indices >= memory.size)]
        if outside.numel():
            raise ValueError(
                f"index {int(outside[0])} is out of range; the memory has rows 0 to {memory.size - 1}."
            )
