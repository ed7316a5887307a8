"""Terms on labels and logits: what the networks answer."""

from torch import Tensor

from kdlib import losses
from kdlib.losses.inputs import check_temperature, check_weights
from kdlib.terms.base import Outputs, Term


class HardLabels(Term):
    """Cross-entropy with the labels, `kdlib.losses.hard_label_loss`; smoothed labels are a control."""

    name = "hard labels"
    needs_teacher = False

    def __init__(self, weight: float = 1.0, label_smoothing: float = 0.0) -> None:
        super().__init__(weight, **({"label_smoothing": label_smoothing} if label_smoothing else {}))
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
    """

    name = "soft targets"

    def __init__(self, weight: float = 1.0, temperature: float = 4.0, standardize: bool = False) -> None:
        super().__init__(weight, temperature=temperature, **({"standardize": True} if standardize else {}))
        check_temperature(temperature)
        self.temperature = temperature
        self.standardize = standardize

    def forward(self, outputs: Outputs) -> Tensor:
        student, teacher = outputs.student_logits, outputs.taught()
        if self.standardize:
            student, teacher = losses.standardize_logits(student), losses.standardize_logits(teacher)
        return losses.soft_target_loss(student, teacher, self.temperature)


class LogitMatching(Term):
    """The teacher's logits themselves, `kdlib.losses.logit_mse_loss`."""

    name = "logit matching"

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def forward(self, outputs: Outputs) -> Tensor:
        return losses.logit_mse_loss(outputs.student_logits, outputs.taught())


class DKD(Term):
    """Decoupled soft targets, `kdlib.losses.dkd_loss`: the label's probability, and the other classes'.

    The authors raise the weight from 0 over the first 20 of 240 epochs; here it is constant.

    Args:
        weight: factor in the total.
        alpha: weight of the label's probability against all others' together.
        beta: weight of the comparison among the other classes.
        temperature: T, above 0.
    """

    name = "dkd"

    def __init__(
        self, weight: float = 1.0, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0
    ) -> None:
        super().__init__(weight, alpha=alpha, beta=beta, temperature=temperature)
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
        beta: weight of the correlation within each image.
        gamma: weight of the correlation within each class.
        temperature: T, above 0.
    """

    name = "dist"

    def __init__(
        self, weight: float = 1.0, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0
    ) -> None:
        super().__init__(weight, beta=beta, gamma=gamma, temperature=temperature)
        check_temperature(temperature)
        check_weights(beta=beta, gamma=gamma)
        self.beta, self.gamma, self.temperature = beta, gamma, temperature

    def forward(self, outputs: Outputs) -> Tensor:
        return losses.dist_loss(
            outputs.student_logits, outputs.taught(), self.beta, self.gamma, self.temperature
        )
