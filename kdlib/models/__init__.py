"""Networks by name: small convolutional ones for the embedded data, and the CIFAR ResNets."""

from kdlib.models.controls import ShuffledTeacher
from kdlib.models.registry import count_parameters, create_model, list_models

__all__ = ["ShuffledTeacher", "count_parameters", "create_model", "list_models"]
