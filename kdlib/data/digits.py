"""The embedded data set: 1,797 handwritten digits that come with scikit-learn."""

import torch
import torch.nn.functional as F

from kdlib.data.augment import Augmentation, RandomCrop
from kdlib.data.split import ImageData, Split, channel_statistics, stratify

_SHARES = (0.5, 1 / 6, 1 / 3)
_SPLIT_SEED = 0


def load_digits(size: int = 8) -> ImageData:
    """Grey pictures of the digits 0 to 9 by 13 writers, half for training, a third for testing, the rest to
    choose settings on.

    The division is random, stratified by class and always the same. Writers are not told apart in this
    data set, so each part has digits by the same people.

    Args:
        size: side in pixels; 8 is how they come, more enlarges them bilinearly.

    Reference:
        Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998; the part that
        scikit-learn ships.
    """
    # Imported here because scikit-learn takes about a second, which `import kdlib` should not.
    from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    grey = torch.from_numpy(bunch.images).float()[:, None] * (255 / 16)
    if size != 8:
        grey = F.interpolate(grey, (size, size), mode="bilinear", align_corners=False)
    images, labels = grey.round().to(torch.uint8), torch.from_numpy(bunch.target).long()
    train, val, test = stratify(labels, _SHARES, _SPLIT_SEED)
    mean, std = channel_statistics(images[train])
    classes = tuple(str(digit) for digit in range(10))
    shift = Augmentation(train=(RandomCrop(padding=max(1, size // 8)),))
    everything = Split(images, labels, classes, mean, std, shift)
    said = f"stratified 1/2, 1/6, 1/3, seed {_SPLIT_SEED}"
    return ImageData(
        "digits", everything.subset(train), everything.subset(val), everything.subset(test), said
    )
