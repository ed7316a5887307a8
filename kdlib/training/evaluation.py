"""What a network answers, and how good the answers are."""

import torch
from torch import Tensor, nn

from kdlib import metrics
from kdlib.data import Split
from kdlib.training import processes
from kdlib.training.failures import is_out_of_memory
from kdlib.training.precision import choose_device


@torch.no_grad()
def predict(model: nn.Module, data: Split, *, batch_size: int = 1024, device: str = "auto") -> Tensor:
    """Logits for every image, in order and without augmentation.

    Processes that torchrun started share the images, and each gets the logits for all; so all have to ask.

    Args:
        model: a classifier; in evaluation mode meanwhile, and put back into the mode it was in.
        data: the images.
        batch_size: how many are computed at once; half of it, and so on, where memory does not suffice. It
            does not change the result.
        device: "auto" takes the GPU where there is one.

    Returns:
        Shape (N, C), float32 or wider, on the CPU.

    Raises:
        ValueError: the batch size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give 1 or more.")
    where = choose_device(device)
    was_training = model.training
    model.to(where).eval()
    try:
        return _answers(model, data, batch_size, where)
    finally:
        model.train(was_training)


def _answers(model: nn.Module, data: Split, batch_size: int, device: torch.device) -> Tensor:
    try:
        batches = data.batches(batch_size, device=device, part=processes.part())
        return torch.cat([processes.gather(model(batch.images)).cpu() for batch in batches])
    except RuntimeError as error:
        # Of several processes the others would have to try again, too.
        if batch_size == 1 or processes.count() > 1 or not is_out_of_memory(error):
            raise
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return _answers(model, data, batch_size // 2, device)


def evaluate(
    model: nn.Module, data: Split, *, teacher: nn.Module | None = None, device: str = "auto"
) -> dict[str, float]:
    """Accuracy, top-5 accuracy, negative log-likelihood, calibration error and agreement with the teacher.

    Every image is scored once. See `kdlib.metrics` for each figure.

    Args:
        model: a classifier.
        data: the images to score.
        teacher: adds "agreement" where it has as many classes; None leaves it out.
        device: "auto" takes the GPU where there is one.
    """
    logits = predict(model, data, device=device)
    teacher_logits = None if teacher is None else predict(teacher, data, device=device)
    if teacher_logits is not None and teacher_logits.shape != logits.shape:
        teacher_logits = None
    return metrics.classification_metrics(logits, data.labels, teacher_logits)
