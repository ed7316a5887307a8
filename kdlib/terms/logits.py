"""Terms on labels and logits: what the networks answer."""

from torch import Tensor

from kdlib import losses
from kdlib.losses.inputs import check_form, check_label_smoothing, check_temperature, check_weights
from kdlib.terms.base import Outputs, Term, check_scalar
from kdlib.terms.weights import Weight


class HardLabels(Term):
    """Cross-entropy with the labels, `kdlib.losses.hard_label_loss`; smoothed labels are a control.

    Args:
        weight: factor in the total.
        label_smoothing: share of each label that is spread evenly over all classes, 0 to 1.
        name: as of every `Term`.
    """

    name = "hard labels"
    needs_teacher = False

    def __init__(
        self, weight: Weight = 1.0, label_smoothing: float = 0.0, *, name: str | None = None
    ) -> None:
        options = {"label_smoothing": label_smoothing} if label_smoothing else {}
        super().__init__(weight, name=name, **options)
        check_label_smoothing(label_smoothing)
        self.label_smoothing = label_smoothing

    def forward(self, outputs: Outputs) -> Tensor:
        return losses.hard_label_loss(outputs.student_logits, outputs.labels, self.label_smoothing)


class SoftTargets(Term):
    """The teacher's softened answer, `kdlib.losses.soft_target_loss` with T² inside.

    Args:
        weight: factor in the total.
        temperature: T, above 0.
        standardize: give both networks' logits mean 0 and standard deviation 1 first
            (`kdlib.losses.standardize_logits`); T is then the base temperature of that paper, 2 in its code.
            There have to be three classes or more.
        form: of the standardisation, "paper" or "code".
        reduction: "batchmean", "mean" or "sum".
        name: as of every `Term`.
    """

    name = "soft targets"
    added = Term.added | {"form", "reduction"}

    def __init__(
        self,
        weight: Weight = 1.0,
        temperature: float = 4.0,
        standardize: bool = False,
        *,
        form: str = "paper",
        reduction: str = "batchmean",
        name: str | None = None,
    ) -> None:
        options = {"standardize": True} if standardize else {}
        super().__init__(
            weight, temperature=temperature, **options, form=form, reduction=reduction, name=name
        )
        check_temperature(temperature)
        check_form(form)
        check_scalar(reduction)
        self.temperature, self.standardize = temperature, standardize
        self.form, self.reduction = form, reduction

    def forward(self, outputs: Outputs) -> Tensor:
        student, teacher = outputs.student_logits, outputs.taught()
        if self.standardize:
            student, teacher = (losses.standardize_logits(logits, self.form) for logits in (student, teacher))
        return losses.soft_target_loss(student, teacher, self.temperature, self.reduction)


class LogitMatching(Term):
    """The teacher's logits themselves, `kdlib.losses.logit_mse_loss`.

    Args:
        weight: factor in the total.
        reduction: "mean", "batchmean" or "sum".
        name: as of every `Term`.
    """

    name = "logit matching"
    added = Term.added | {"reduction"}

    def __init__(self, weight: Weight = 1.0, *, reduction: str = "mean", name: str | None = None) -> None:
        super().__init__(weight, reduction=reduction, name=name)
        check_scalar(reduction)
        self.reduction = reduction

    def forward(self, outputs: Outputs) -> Tensor:
        return losses.logit_mse_loss(outputs.student_logits, outputs.taught(), self.reduction)


class DKD(Term):
    """Decoupled soft targets, `kdlib.losses.dkd_loss`: the label's probability, and the other classes'.

    The authors raise the weight from 0 over the first 20 of 240 epochs: ``DKD(LinearWarmUp(1, 20 / 240))``.

    Args:
        weight: factor in the total.
        alpha: weight of the label's probability against all others' together.
        beta: weight of the comparison among the other classes; of two classes there is only one other.
        temperature: T, above 0.
        name: as of every `Term`.
    """

    name = "dkd"

    def __init__(
        self,
        weight: Weight = 1.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, alpha=alpha, beta=beta, temperature=temperature, name=name)
        check_temperature(temperature)
        check_weights(alpha=alpha, beta=beta)
        self.alpha, self.beta, self.temperature = alpha, beta, temperature

    def forward(self, outputs: Outputs) -> Tensor:
        return losses.dkd_loss(
            outputs.student_logits, outputs.taught(), outputs.labels, self.alpha, self.beta, self.temperature
        )


class DIST(Term):
    """Correlation with the teacher's probabilities, `kdlib.losses.dist_loss`.

    Args:
        weight: factor in the total.
        beta: weight of the correlation within each image, from which two classes learn nothing.
        gamma: weight of the correlation within each class, from which two images learn nothing.
        temperature: T, above 0.
        form: "paper" or "code".
        name: as of every `Term`.
    """

    name = "dist"
    added = Term.added | {"form"}

    def __init__(
        self,
        weight: Weight = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 1.0,
        *,
        form: str = "paper",
        name: str | None = None,
    ) -> None:
        super().__init__(weight, beta=beta, gamma=gamma, temperature=temperature, form=form, name=name)
        check_temperature(temperature)
        check_weights(beta=beta, gamma=gamma)
        check_form(form)
        self.beta, self.gamma, self.temperature, self.form = beta, gamma, temperature, form
        self.compares_images = gamma > 0
        self.least_images = 1 if beta else 3

    def forward(self, outputs: Outputs) -> Tensor:
        return losses.dist_loss(
            outputs.student_logits, outputs.taught(), self.beta, self.gamma, self.temperature, self.form
        )
