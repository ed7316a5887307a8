"""The term of contrast: the same image is near, images of other classes are far."""

from torch import Tensor, nn

from kdlib import losses
from kdlib.losses.inputs import check_form, check_temperature
from kdlib.terms.base import EMBEDDING, Example, Layers, LayerTerm, Outputs
from kdlib.terms.weights import Weight


class CRD(LayerTerm):
    """Contrastive representation distillation, `kdlib.losses.crd_loss` with its `ContrastMemory`.

    Both networks' features go through a linear layer each, which are trained with the student.

    Args:
        weight: factor in the total; 0.8 in the paper.
        labels: the class of every training image, in the order of the training split; those that `kdlib.fit`
            trains on if not given. ``torch.arange(len(train))`` lets the negatives be any other images.
        width: of the embeddings that are compared.
        negatives: how many images of other classes each image is compared with.
        temperature: above 0.
        layers: one layer of each network.
        momentum: share of the old embedding that stays in the memory when an image is seen again.
        form: "code" or "paper".
        name: as of every `Term`.
    """

    name = "crd"
    has_connectors = True
    compares_images = True
    added = LayerTerm.added | {"momentum", "form"}

    def __init__(
        self,
        weight: Weight = 0.8,
        *,
        labels: Tensor | None = None,
        width: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        layers: Layers = EMBEDDING,
        momentum: float = 0.5,
        form: str = "code",
        name: str | None = None,
    ) -> None:
        super().__init__(
            weight,
            layers,
            width=width,
            negatives=negatives,
            temperature=temperature,
            momentum=momentum,
            form=form,
            name=name,
        )
        check_temperature(temperature)
        check_form(form)
        if len(self.pairs) != 1:
            raise ValueError(f"CRD compares one layer and got {len(self.pairs)}; name one.")
        self.labels, self.width, self.negatives = labels, width, negatives
        self.temperature, self.momentum, self.form = temperature, momentum, form
        self.embeddings = nn.ModuleList()
        self.memory: losses.ContrastMemory | None = None

    def connect(self, example: Example) -> None:
        labels = example.train_labels if self.labels is None else self.labels
        if labels is None:
            raise ValueError(
                "CRD has to know the class of every training image; call "
                "distiller.connect(images, train_labels=train.labels), or give it labels=train.labels."
            )
        ((student, teacher),) = self.both(example)
        for features in (student, teacher):
            self.embeddings.append(nn.Linear(features[0].numel(), self.width))
        self.memory = losses.ContrastMemory(
            len(labels), self.width, self.negatives, self.momentum, labels=labels
        )

    def forward(self, outputs: Outputs) -> Tensor:
        assert self.memory is not None, "Distiller connects a term before it calls it"
        if outputs.indices is None:
            raise ValueError(
                "CRD has to know which images these are; call distiller(images, labels, indices) with their "
                "positions in the training set."
            )
        student, teacher = (
            embed(features.flatten(1))
            for embed, features in zip(self.embeddings, self.both(outputs)[0], strict=True)
        )
        return losses.crd_loss(student, teacher, outputs.indices, self.memory, self.temperature, self.form)
