"""The networks of a recipe, with the weights that they start from."""

from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from kdlib.data import ImageData
from kdlib.models import create_model
from kdlib.models.initialise import initialise
from kdlib.models.taps import embedding_path
from kdlib.recipes import NetworkSpec, Recipe
from kdlib.recipes.schema import IMAGENET
from kdlib.runs.store import Store
from kdlib.training.checkpoints import check_fits, load_tensors

# Torchvision's first weights for each network, which "pretrained" meant in the sources of this course.
_IMAGENET_WEIGHTS = "IMAGENET1K_V1"


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
            initialise(network)
    return network


def make_student(recipe: Recipe, seed: int, data: ImageData, store: Store) -> nn.Module:
    """The network that a run trains, with the weights that it starts from.

    Raises:
        ValueError: these are of another network; the message names them.
        OSError: ImageNet's weights are not here and cannot be downloaded.
    """
    if recipe.student.start == IMAGENET:
        student = _pretrained(recipe.student, data, seed)
    else:
        student = make_untrained(recipe.student, data, seed)
    if recipe.start is not None:
        path = store.folder(*recipe.start).student
        tensors, _ = load_tensors(path)
        weights = _with_own_head(student, tensors)
        check_fits(student, weights, path)
        student.load_state_dict(weights)
    if recipe.student.head_only:
        head = _head(student)
        for name, weight in student.named_parameters():
            weight.requires_grad_(name.startswith(head))
    return student


def _pretrained(spec: NetworkSpec, data: ImageData, seed: int) -> nn.Module:
    try:
        return make_untrained(spec, data, seed, weights=_IMAGENET_WEIGHTS)
    except URLError as error:
        raise OSError(
            f"the ImageNet weights of {spec.name} are not here and cannot be downloaded ({error.reason}); "
            f"put the file into {torch.hub.get_dir()}/checkpoints, or let TORCH_HOME name the folder of hub/"
        ) from error


def _with_own_head(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, with the network's own last layer where these have one for other classes."""
    own, head = network.state_dict(), _head(network)
    return {
        name: own[name]
        if name.startswith(head) and name in own and own[name].shape != tensor.shape
        else tensor
        for name, tensor in tensors.items()
    }


def _head(network: nn.Module) -> str:
    """What the names of the last linear layer's weights begin with."""
    return embedding_path(network).rpartition(":")[0] + "."
