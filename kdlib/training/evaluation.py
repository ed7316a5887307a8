"""What a network answers, and how good the answers are."""

import torch
from torch import Tensor, nn

from kdlib import metrics
from kdlib.data import Split
from kdlib.training import processes
from kdlib.training.precision import choose_device


@torch.no_grad()
def predict(model: nn.Module, data: Split, *, batch_size: int = 1024, device: str = "auto") -> Tensor:
    """Logits for every image, in order and without augmentation.

    Processes that torchrun started share the images, and each gets the logits for all; so all have to ask.

    Args:
        model: a classifier; in evaluation mode meanwhile, and put back into the mode it was in.
        data: the images.
        batch_size: how many are computed at once; it does not change the result.
        device: "auto" takes the GPU where there is one.

    Returns:
        Shape (N, C), float32 or wider, on the CPU.
    """
    where = choose_device(device)
    was_training = model.training
    model.to(where).eval()
    batches = data.batches(batch_size, device=where, part=processes.part())
    logits = [processes.gather(model(batch.images)).cpu() for batch in batches]
    model.train(was_training)
    return torch.cat(logits)


def evaluate(
    model: nn.Module, data: Split, *, teacher: nn.Module | None = None, device: str = "auto"
) -> dict[str, float]:
    """Accuracy, top-5 accuracy, negative log-likelihood, calibration error and agreement with the teacher.

    Every image is scored once. See `kdlib.metrics` for each figure.

    Args:
        model: a classifier.
        data: the images to score.
        teacher: adds "agreement"; None leaves it out.
        device: "auto" takes the GPU where there is one.
    """
    teacher_logits = None if teacher is None else predict(teacher, data, device=device)
    return metrics.classification_metrics(predict(model, data, device=device), data.labels, teacher_logits)
