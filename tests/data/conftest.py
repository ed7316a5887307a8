"""Tiny data sets in the true formats, made for the tests."""

import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(seed, size=(40, 30), mode="RGB"):
    """A picture of noise."""
    values = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def write_folders(root, counts, **options):
    """``root/CLASS/image_0001.jpg`` and so on, as many as `counts` says for each class."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for number in range(1, count + 1):
            picture(100 * label + number, **options).save(root / name / f"image_{number:04d}.jpg")
    return root


def cifar_archive(name, path):
    """A CIFAR archive with two images a batch: pickled dictionaries, as its authors made them."""
    fine = {"cifar10": "labels", "cifar100": "fine_labels"}[name]
    folder = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name]
    batches = (
        {f"data_batch_{k}": k for k in range(1, 6)} | {"test_batch": 6}
        if name == "cifar10"
        else {"train": 1, "test": 2}
    )
    meta = {"cifar10": "batches.meta", "cifar100": "meta"}[name]
    names = {"cifar10": "label_names", "cifar100": "fine_label_names"}[name]
    count = 10 if name == "cifar10" else 100
    files = {meta: {names: [f"class {k}" for k in range(count)]}}
    for batch, seed in batches.items():
        data = np.random.default_rng(seed).integers(0, 256, (20, 3072), dtype=np.uint8)
        files[batch] = {"data": data, fine: [(seed + k) % count for k in range(20)]}
    with tarfile.open(path, "w:gz") as archive:
        for file, content in files.items():
            raw = pickle.dumps(content)
            entry = tarfile.TarInfo(f"{folder}/{file}")
            entry.size = len(raw)
            archive.addfile(entry, io.BytesIO(raw))
    return path


@pytest.fixture
def real_data(lacking):
    """The folder with the real data sets."""
    root = os.environ.get("KDLIB_DATA")
    if not root or not Path(root).is_dir():
        lacking("data", "KDLIB_DATA names no folder with the real data sets")
    return Path(root)
