"""Augmentation by the batch, on the device that trains.

Every transform takes its random numbers as a table with one row per image, so that what happens to an image
depends on the seed, the epoch and the image alone, and not on the batch it is in.
"""

from kdlib.data.augment.crops import CentreCrop, RandomCrop, RandomFlip, RandomResizedCrop
from kdlib.data.augment.erasing import RandomErasing
from kdlib.data.augment.pipeline import Augmentation, Transform, normalize
from kdlib.data.augment.randaugment import RandAugment

__all__ = [
    "Augmentation",
    "CentreCrop",
    "RandAugment",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomResizedCrop",
    "Transform",
    "normalize",
]
