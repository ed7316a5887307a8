"""The networks of a recipe, with the weights that they start from."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdlib.data import ImageData
from kdlib.experiments.recipes import NetworkSpec, Recipe
from kdlib.experiments.recipes.schema import IMAGENET
from kdlib.experiments.store import Store
from kdlib.models import View, create_model
from kdlib.models.init import init_weights
from kdlib.models.taps import embedding_path
from kdlib.training.state import check_fits, load_tensors


def make_untrained(spec: NetworkSpec, data: ImageData, seed: int, **options: Any) -> nn.Module:
    """The network for these images.

    Args:
        spec: which network.
        data: their classes and channels are its.
        seed: of the first weights.
        options: of `create_model` besides those of `spec`.
    """
    options = spec.options | options
    network = create_model(spec.name, data.num_classes, in_channels=data.in_channels, seed=seed, **options)
    if spec.initial == "kaiming-xavier" and "weights" not in options:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            init_weights(network)
    return network


def make_student(recipe: Recipe, seed: int, data: ImageData, store: Store) -> nn.Module:
    """The network that a run trains, with the weights that it starts from.

    Raises:
        ValueError: these are of another network; the message names them.
        OSError: ImageNet's weights are not here and cannot be downloaded.
    """
    if recipe.student.start == IMAGENET:
        student = make_untrained(recipe.student, data, seed, weights=IMAGENET)
    else:
        student = make_untrained(recipe.student, data, seed)
    if recipe.start is not None:
        path = store.folder(*recipe.start.of(seed)).student
        tensors, _ = load_tensors(path)
        weights = _with_own_head(student, tensors, data)
        check_fits(student, weights, path)
        student.load_state_dict(weights)
    if recipe.student.head_only:
        head = _head(student, data)
        for name, weight in student.named_parameters():
            weight.requires_grad_(name.startswith(head))
    if recipe.student.batch_norm == "kept":
        for module in student.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    return shown(student, recipe.student, data)


def shown(network: nn.Module, spec: NetworkSpec, data: ImageData) -> nn.Module:
    """The network with its own size and normalisation of the pictures, where it has them."""
    if spec.size is None and spec.normalize is None:
        return network
    if spec.normalize is None:
        return View(network, spec.size)
    values = (spec.normalize,) * data.in_channels
    normalised = (data.train.mean, data.train.std)
    return View(network, spec.size, normalised=normalised, expected=(values, values))


def _with_own_head(network: nn.Module, tensors: dict[str, Tensor], data: ImageData) -> dict[str, Tensor]:
    """The weights, with the network's own last layer where these have one for other classes."""
    own, head = network.state_dict(), _head(network, data)
    return {
        name: own[name]
        if name.startswith(head) and name in own and own[name].shape != tensor.shape
        else tensor
        for name, tensor in tensors.items()
    }


def _head(network: nn.Module, data: ImageData) -> str:
    """What the names of the weights begin with that give the logits."""
    images = next(data.train.batches(2)).images
    return embedding_path(network, images).rpartition(":")[0] + "."
