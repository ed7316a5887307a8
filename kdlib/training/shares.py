"""A batch that several processes share, computed as if one of them had it all.

Each process asks the networks for its rows of the batch. Then the answers and the tapped maps of all rows are
gathered, so that every process computes every term on the whole batch. That is why

- losses between images (RKD, SP, CC, PKT, DIST, CRD) compare all images of the batch;
- a mean over the batch needs no weights where shares are uneven, and a share may be empty;
- the loss is the same number everywhere, and so is what follows from it: all stop at a NaN, for instance.

Batch norm takes the mean and the variance of the whole batch, and dropout draws for the whole batch. The
batch size of a run is that of all processes together, so that the learning rate is the same for any number.

What it costs: tapped maps travel, and a term's own modules and sums are computed by every process.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdlib.distiller import Objective
from kdlib.losses.inputs import full_precision
from kdlib.models.controls import generators
from kdlib.terms import Outputs
from kdlib.training import processes

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@contextmanager
def shared_batches(objective: Objective) -> Iterator[None]:
    """Let an objective that is given its share of each batch compute what it would on the whole.

    One process has all of each batch, and nothing is changed.

    Args:
        objective: connected, on its device.

    Raises:
        ValueError: the networks do to a batch what cannot be done to its shares.
    """
    if processes.count() == 1:
        yield
        return
    _check(objective)
    whole = _Whole()
    with ExitStack() as stack:
        stack.callback(objective.register_forward_pre_hook(whole.see).remove)
        stack.enter_context(objective.collecting(whole.gather))
        # Not the modules of the terms, which are given the whole batch.
        for network in objective.learners:
            stack.enter_context(_whole_batch_norm(network))
            stack.enter_context(_whole_dropout(network, whole))
        yield


class _Whole:
    """The batch of the step that is being computed: how many of its rows each process has."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def see(self, _objective: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.sizes = processes.sizes_of(len(inputs[0]))

    def own(self, rows: Tensor) -> Tensor:
        """This process's rows, of those of the whole batch."""
        share: Tensor = rows.split(self.sizes)[processes.rank()]
        return share

    def gather(self, outputs: Outputs) -> Outputs:
        """The outputs for all rows."""
        return Outputs(
            student_logits=self._rows(outputs.student_logits),
            teacher_logits=None if outputs.teacher_logits is None else self._rows(outputs.teacher_logits),
            labels=self._rows(outputs.labels),
            student_maps={path: self._rows(maps) for path, maps in outputs.student_maps.items()},
            teacher_maps={path: self._rows(maps) for path, maps in outputs.teacher_maps.items()},
            indices=None if outputs.indices is None else self._rows(outputs.indices),
        )

    def _rows(self, own: Tensor) -> Tensor:
        rows: Tensor = _Gather.apply(own, self.sizes)
        return rows


class _Gather(torch.autograd.Function):
    """All rows; backwards, what comes for this process's own.

    Every process has the same loss of all rows, and with it the whole gradient of these. The weights'
    gradients are averaged over the processes afterwards, where those of a network's shares have to be summed:
    hence the factor. A term's own modules see all rows in every process, and their average is right as it is.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return processes.gather(own, sizes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.split(ctx.sizes)[processes.rank()] * processes.count(), None


class _Sum(torch.autograd.Function):
    """The sum over all processes, through which a gradient passes."""

    @staticmethod
    def forward(_ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


class _GPUBatchNorm(nn.SyncBatchNorm):
    """Torch's own batch norm of the whole batch, which is for GPUs only."""

    process_group = None  # all processes


class _CPUBatchNorm(_BatchNorm):
    """The same on a CPU: a gradient passes through mean and variance of the whole batch."""

    def _check_input_dim(self, _maps: Tensor) -> None:
        """The module was used before it became this one."""

    def forward(self, maps: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            answers: Tensor = super().forward(maps)
            return answers
        axes, shape = (0, *range(2, maps.ndim)), (1, -1, *(1 for _ in maps.shape[2:]))
        values = full_precision(maps)
        own_count = values.new_tensor([values.numel() / values.shape[1]])
        sums = _Sum.apply(torch.cat([values.sum(axes), own_count]))
        count = sums[-1].detach()
        if count < 2:
            raise ValueError("batch norm needs more than one value a channel; give a larger batch_size.")
        mean = sums[:-1] / count
        # In a second pass, because a difference of large squares would lose digits.
        centred = values - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(axes)) / count
        if self.training:
            self._remember(mean.detach(), variance.detach() * count / (count - 1))
        normalised = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        normal: Tensor = normalised.to(maps.dtype)
        return normal

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


@contextmanager
def _whole_batch_norm(network: nn.Module) -> Iterator[None]:
    """Normalise by the whole batch."""
    kind = _GPUBatchNorm if next(network.parameters()).is_cuda else _CPUBatchNorm
    changed = [(module, type(module)) for module in network.modules() if type(module) in _BATCH_NORMS]
    for module, _ in changed:
        # Another class for the same object keeps its weights, its path and its hooks.
        module.__class__ = kind
    try:
        yield
    finally:
        for module, own in changed:
            module.__class__ = own


@contextmanager
def _whole_dropout(network: nn.Module, whole: _Whole) -> Iterator[None]:
    """Draw for the whole batch in every process, and take the own rows: all draw what one process would."""

    def replace(module: nn.Module) -> None:
        drop = module.forward

        def forward(values: Tensor) -> Tensor:
            if not module.training:
                return values
            return values * whole.own(drop(values.new_ones(sum(whole.sizes), *values.shape[1:])))

        module.forward = forward

    changed = [module for module in network.modules() if type(module) in _DROPOUTS]
    for module in changed:
        replace(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _check(objective: Objective) -> None:
    if objective.teacher is not None and any(True for _ in generators(objective.teacher)):
        raise ValueError(
            f"{type(objective.teacher).__name__} draws random numbers for a whole batch, of which each of "
            f"the {processes.count()} processes has a share; train in one process."
        )
    for network in objective.learners:
        for module in network.modules():
            if isinstance(module, _BatchNorm) and type(module) not in _BATCH_NORMS:
                raise ValueError(
                    f"{type(module).__name__} would normalise by the share of a batch that each of the "
                    f"{processes.count()} processes has; train in one process."
                )
