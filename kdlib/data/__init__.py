"""Data sets by name, as uint8 tensors that are augmented a batch at a time."""

from kdlib.data.augment import Augmentation
from kdlib.data.download import download_data
from kdlib.data.iterable import BatchSource
from kdlib.data.load import list_data, load_data, register
from kdlib.data.split import Batch, ImageData, Split

__all__ = [
    "Augmentation",
    "Batch",
    "BatchSource",
    "ImageData",
    "Split",
    "download_data",
    "list_data",
    "load_data",
    "register",
]
