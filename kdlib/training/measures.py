"""What is measured on the test images while a network is trained; it decides nothing."""

import copy

import torch
from torch import Tensor

from kdlib import metrics
from kdlib.data import Split
from kdlib.distiller import Distiller, Objective
from kdlib.losses.inputs import DivergedError
from kdlib.terms import Outputs, Term
from kdlib.training.evaluation import predict


class Measures:
    """Accuracy, and how near the student's answers are to the teacher's, in the epochs that have a test.

    - "test_accuracy".
    - "test_loss": the objective on the test images, where all its terms compare answers. A term on layers
      may remember the images that it was shown, and test images are not to be remembered.
    - "test_logit_difference": mean of |teacher's logit − student's| over images and classes, where there is a
      teacher with the same classes.

    Args:
        objective: connected, on its device.
        test: images to evaluate on; None measures nothing.
        every: epochs between two tests; None has none.
        device: where the networks are.
    """

    def __init__(
        self, objective: Objective, test: Split | None, every: int | None, device: torch.device
    ) -> None:
        self._objective, self._every, self._device = objective, every, str(device)
        self._test = None if every is None else test
        self._teacher_logits: Tensor | None = None
        if self._test is not None and objective.teacher is not None:
            # A copy: a control teacher draws random numbers, and its next ones are for the training.
            teacher = copy.deepcopy(objective.teacher)
            self._teacher_logits = predict(teacher, self._test, device=self._device)

    def __call__(self, epoch: int) -> dict[str, float]:
        """The measurements after the epoch of this number, from 1; empty where it has none.

        Raises:
            DivergedError: an answer is NaN or infinite.
        """
        if self._test is None or self._every is None or epoch % self._every:
            return {}
        logits = predict(self._objective.student, self._test, device=self._device)
        if not logits.isfinite().all():
            raise DivergedError(
                f"the student's answers to the test images are NaN or infinite after epoch {epoch}; try a "
                "lower learning rate."
            )
        measured = {"test_accuracy": metrics.accuracy(logits, self._test.labels)}
        loss = self._loss(Outputs(logits, self._teacher_logits, self._test.labels))
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
        return sum((term.weight * float(term(outputs)) for term in terms), start=0.0)
