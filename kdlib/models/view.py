"""`View`: a network that sees the same pictures in a size and a normalisation of its own."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

# Mean and standard deviation of each channel, of pixels from 0 to 1.
Statistics = tuple[Sequence[float], Sequence[float]]


class View(nn.Module):
    r"""A network that is shown each picture of a batch in its own size, its own normalisation, or both.

    It may also be one whose logits are a part of what it answers, ``View(network, output="prediction")``.

    .. code-block:: python

        data = load_data("caltech101", size=128)
        pretrained = create_model("efficientnet_lite0", data.num_classes, weights="imagenet")
        teacher = View(pretrained, normalised=(data.train.mean, data.train.std), expected=STATISTICS)
        student = View(create_model("mobilenets_m", data.num_classes), size=64)
        fit(Distiller(student, teacher, terms), data.train, test=data.test)

    Teacher and student look at one crop, mirrored or not, because both are shown what is made of one batch.
    Its pictures have the larger of the two sizes, since resizing invents no detail. A picture x that was
    normalised with mean μ and standard deviation σ is seen as :math:`(\sigma x + \mu - \mu') / \sigma'`, and
    resized as training crops are, bilinearly with antialiasing.

    The network is ``module``, through which `tap` looks. It has no weights besides the network's, and these
    have the network's names in its ``state_dict``: a file of the one fits the other.

    Args:
        network: takes (N, C, size, size); shared, not copied.
        size: side in pixels of what the network is shown; None leaves it as it comes.
        normalised: mean and standard deviation of each channel, in units of 0 to 1, that the images were
            normalised with, ``(split.mean, split.std)``.
        expected: those that the network was trained with; given together with `normalised` or not at all.
        output: the key, or the name, under which the logits are in what the network answers.

    Raises:
        ValueError: nothing is given, only one of the two normalisations is, they are not for the same number
            of channels, or a number is out of range. When it is asked: there is no such output.
    """

    def __init__(
        self,
        network: nn.Module,
        size: int | None = None,
        *,
        normalised: Statistics | None = None,
        expected: Statistics | None = None,
        output: str | None = None,
    ) -> None:
        super().__init__()
        if size is not None and size < 1:
            raise ValueError(f"size is {size}; give a number of pixels, 1 or more.")
        if (normalised is None) != (expected is None):
            raise ValueError(
                "give both normalisations or none: the one that the images have had, and the one that the "
                "network was trained with."
            )
        if size is None and normalised is None and output is None:
            raise ValueError(
                "there is nothing to change; give a size, normalised and expected, or an output."
            )
        self.module = network
        self.size = size
        self.output = output
        self._scale, self._offset = _affine(normalised, expected) if normalised and expected else ([], [])
        self.register_state_dict_post_hook(_take_prefix)
        self.register_load_state_dict_pre_hook(_give_prefix)

    def forward(self, images: Tensor) -> Tensor:
        # In float32, whatever the weights are in: there is no antialiasing in half precision on a CPU.
        seen = images.float()
        if self._scale:
            self._check_channels(images)
            # No buffers, which would be rounded with the weights.
            scale, offset = seen.new_tensor(self._scale), seen.new_tensor(self._offset)
            seen = seen * scale[:, None, None] + offset[:, None, None]
        if self.size is not None:
            seen = F.interpolate(seen, size=(self.size, self.size), mode="bilinear", antialias=True)
        answers: Tensor = self._logits(self.module(seen.to(images.dtype)))
        return answers

    def _logits(self, answers: Any) -> Any:
        if self.output is None:
            return answers
        if isinstance(answers, Mapping) and self.output in answers:
            return answers[self.output]
        if hasattr(answers, self.output):
            return getattr(answers, self.output)
        there = f" with the keys {', '.join(map(repr, answers))}" if isinstance(answers, Mapping) else ""
        raise ValueError(
            f"output is {self.output!r}, and {type(self.module).__name__} answers with a "
            f"{type(answers).__name__}{there}; name what holds the logits."
        )

    def _check_channels(self, images: Tensor) -> None:
        # One channel would become three without a word.
        if images.shape[1] != len(self._scale):
            raise ValueError(
                f"the images have {images.shape[1]} channels and the normalisation {len(self._scale)}; give "
                "a mean and a standard deviation for every channel."
            )

    def extra_repr(self) -> str:
        size = [] if self.size is None else [f"size={self.size}"]
        size += [] if self.output is None else [f"output={self.output!r}"]
        return ", ".join(size + ([f"scale={self._scale}, offset={self._offset}"] if self._scale else []))


def _affine(normalised: Statistics, expected: Statistics) -> tuple[list[float], list[float]]:
    """Factor and summand of each channel that lead from the one normalisation to the other."""
    columns = [*normalised, *expected]
    if len({len(column) for column in columns}) != 1:
        raise ValueError(
            f"normalised is {normalised} and expected is {expected}; each is a mean and a standard deviation "
            "for every channel."
        )
    for _, std in (normalised, expected):
        if not all(math.isfinite(value) and value > 0 for value in std):
            raise ValueError(f"a standard deviation is {tuple(std)}; give finite numbers above 0.")
    rows = list(zip(*columns, strict=True))
    return [std / wanted for _, std, _, wanted in rows], [(a - b) / wanted for a, _, b, wanted in rows]


def _take_prefix(_view: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    long = f"{prefix}module."
    for name in [name for name in state if name.startswith(long)]:
        state[prefix + name.removeprefix(long)] = state.pop(name)


def _give_prefix(_view: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        state[f"{prefix}module.{name.removeprefix(prefix)}"] = state.pop(name)
