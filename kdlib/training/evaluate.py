"""What a network answers, how good the answers are, and what is measured while it is trained."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

from kdlib import metrics
from kdlib.data import Batch, BatchSource, Split
from kdlib.data.iterable import as_data
from kdlib.distiller import Distiller, Objective
from kdlib.losses.inputs import DivergedError
from kdlib.models.answers import Network, as_network, compute_logits, warn_of_probabilities
from kdlib.models.trials import copied, modes_kept, untouched
from kdlib.terms import Outputs, Term
from kdlib.training import distributed
from kdlib.training.accelerate import forward_flops, limited_threads
from kdlib.training.guards import is_out_of_memory
from kdlib.training.precision import choose_device

# Of the images that are computed at once: 1,024 of 32×32, 64 of 128×128, 20 of 224×224. Maps grow with them.
_PIXELS_AT_ONCE = 1 << 20


@torch.no_grad()
def predict(
    model: Network,
    data: Split | Iterable[Any],
    *,
    batch_size: int | None = None,
    device: str | torch.device = "auto",
    accelerate: bool = True,
) -> Tensor:
    """Logits for every image, in order and without augmentation.

    Processes that torchrun started share the images, and each gets the logits for all; so all have to ask.

    Args:
        model: a classifier, or a function from images to logits; in evaluation mode meanwhile, each of its
            modules put back into the mode it was in.
        data: the images: a split, or batches, such as a DataLoader's; see `kdlib.data.BatchSource`.
        batch_size: how many of a split are computed at once; a million pixels of them if not given. Half of
            it, and so on, where memory does not suffice. It does not change the result.
        device: "auto" takes the GPU where there is one.
        accelerate: whether to compute with no more threads than pay.

    Returns:
        Shape (N, C), float32 or wider, on the CPU.

    Raises:
        ValueError: the batch size is below 1, `data` is neither, or the model answers with no logits.
    """
    return _predict(model, as_data(data, "data"), batch_size, choose_device(device), accelerate)[0]


@torch.no_grad()
def _predict(
    model: Network,
    data: Split | BatchSource,
    batch_size: int | None,
    device: torch.device,
    accelerate: bool,
) -> tuple[Tensor, Tensor]:
    """Logits and labels of every image, in order."""
    if isinstance(data, BatchSource):
        example = next(data.batches(device=device)).images
        at_once = len(example)
    else:
        if batch_size is None:
            batch_size = max(1, _PIXELS_AT_ONCE // data.images.shape[2:].numel())
        at_once = min(batch_size, len(data))
        example = next(data.batches(1, device=device)).images
    network = as_network(model, "model").to(device)

    def flops() -> int:
        return round(at_once / distributed.world_size() * forward_flops(network, example[:1]))

    with modes_kept(network), limited_threads(flops, device) if accelerate else nullcontext():
        return _answers(network.eval(), data, at_once, device)


def _answers(
    model: nn.Module, data: Split | BatchSource, batch_size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    try:
        found = [
            (distributed.all_gather(compute_logits(model, batch.images), images).cpu(), labels.cpu())
            for images, batch, labels in _shares(data, batch_size, device)
        ]
        logits, labels = zip(*found, strict=True)
        return torch.cat(logits), torch.cat(labels)
    except RuntimeError as error:
        # Of several processes the others would have to try again, too, and given batches stay as they are.
        fixed = isinstance(data, BatchSource) or batch_size == 1 or distributed.world_size() > 1
        if fixed or not is_out_of_memory(error):
            raise
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return _answers(model, data, batch_size // 2, device)


def _shares(
    data: Split | BatchSource, batch_size: int, device: torch.device
) -> Iterator[tuple[int, Batch, Tensor]]:
    """How many images each batch has, this process's share of it, and the labels of all its images."""
    if isinstance(data, BatchSource):
        for whole in data.batches(device=device):
            yield len(whole.labels), whole.share(*distributed.shard()), whole.labels
    else:
        sizes = data.batch_sizes(batch_size)
        shares = data.batches(batch_size, device=device, part=distributed.shard())
        yield from zip(sizes, shares, data.labels.split(sizes), strict=True)


def evaluate(
    model: Network,
    data: Split | Iterable[Any],
    *,
    teacher: Network | None = None,
    device: str | torch.device = "auto",
    accelerate: bool = True,
) -> dict[str, float]:
    """Accuracy, top-5 accuracy, negative log-likelihood, calibration error and agreement with the teacher.

    Every image is scored once. See `kdlib.metrics` for each figure.

    Args:
        model: a classifier, or a function from images to logits.
        data: the images to score: a split, or batches, such as a DataLoader's, the same each time.
        teacher: adds "agreement" where it has as many classes; None leaves it out.
        device: "auto" takes the GPU where there is one.
        accelerate: as for `predict`.
    """
    where, images = choose_device(device), as_data(data, "data")
    logits, labels = _predict(model, images, None, where, accelerate)
    _check_labels(labels, labels)
    warn_of_probabilities(logits, "model")
    teacher_logits = None
    if teacher is not None:
        teacher_logits, again = _predict(teacher, images, None, where, accelerate)
        _check_labels(labels, again)
        if teacher_logits.shape != logits.shape:
            teacher_logits = None
    return metrics.classification_metrics(logits, labels, teacher_logits)


def _check_labels(first: Tensor, again: Tensor) -> None:
    """Raise ValueError unless these are one list of class indices: of images in another order each time."""
    if first.ndim != 1:
        raise ValueError(
            f"the labels of the test images are of shape {tuple(first.shape)}; give class indices (N,), of "
            "images that are not mixed."
        )
    if not torch.equal(first, again):
        raise ValueError(
            "the test images came in another order the second time; give a DataLoader with shuffle=False."
        )


class Evaluator:
    """Accuracy, and how near the student's answers are to the teacher's, in the epochs that have a test.

    - "test_accuracy".
    - "test_loss": the objective on the test images, where all its terms compare answers: there are no maps
      of these images, and no positions in the training set, so that a term that asks for one leaves it out.
      What a term remembers of the images that it was shown stays as it is.
    - "test_logit_difference": mean of |teacher's logit − student's| over images and classes, where there is a
      teacher with the same classes.

    Args:
        objective: connected, on its device.
        test: images to evaluate on; None measures nothing.
        every: epochs between two tests; None has none.
        device: where the networks are.
        accelerate: as for `predict`.
    """

    def __init__(
        self,
        objective: Objective,
        test: Split | BatchSource | None,
        every: int | None,
        device: torch.device,
        accelerate: bool = True,
    ) -> None:
        self._objective, self._every = objective, every
        self._where = (None, device, accelerate)
        self._test = None if every is None else test
        self._teacher_logits: Tensor | None = None
        self._labels: Tensor | None = None
        if self._test is not None and objective.teacher is not None:
            # A control teacher draws random numbers, and its next ones are for the training.
            with untouched(objective.teacher):
                self._teacher_logits, self._labels = _predict(objective.teacher, self._test, *self._where)

    def __call__(self, epoch: int) -> dict[str, float]:
        """The measurements after the epoch of this number, from 1; empty where it has none.

        Raises:
            DivergedError: an answer is NaN or infinite.
        """
        if self._test is None or self._every is None or epoch % self._every:
            return {}
        logits, labels = _predict(self._objective.student, self._test, *self._where)
        _check_labels(labels, labels if self._labels is None else self._labels)
        if not logits.isfinite().all():
            raise DivergedError(
                f"the student's answers to the test images are NaN or infinite after epoch {epoch}; try a "
                "lower learning rate."
            )
        measured = {"test_accuracy": metrics.accuracy(logits, labels)}
        loss = self._loss(_TestOutputs(logits, self._teacher_logits, labels))
        if loss is not None:
            measured["test_loss"] = loss
        if self._teacher_logits is not None and self._teacher_logits.shape == logits.shape:
            measured["test_logit_difference"] = (self._teacher_logits - logits).abs().mean().item()
        return measured

    @torch.no_grad()
    def _loss(self, outputs: Outputs) -> float | None:
        if not isinstance(self._objective, Distiller):
            return None
        terms = [term for term in self._objective.terms if isinstance(term, Term)]
        if any(term.pairs for term in terms):
            return None
        # Copies, because a term may remember what it is shown, and test images are not to be remembered.
        copies = [copy.cpu().eval() for term in terms if (copy := copied(term)) is not None]
        if len(copies) < len(terms):
            return None
        with torch.random.fork_rng(devices=[]), suppress(_NoIndicesError):
            progress = self._objective.progress
            return sum((term.weight_at(progress) * float(term(outputs)) for term in copies), start=0.0)
        return None


class _TestOutputs(Outputs):
    """Outputs for test images, which have no place among the training images."""

    @property
    def indices(self) -> Tensor | None:
        raise _NoIndicesError


class _NoIndicesError(Exception):
    """A term asked which of the training images the test images are."""
