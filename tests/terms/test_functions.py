"""`Term.of`: a term from any loss function, on logits or on layers."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlib import Distiller, HardLabels, create_model, fit, load_data, losses, tap
from kdlib.terms import Term

LAYERS = ["layer1", "layer2"]


@pytest.fixture(scope="module")
def train():
    return load_data("digits").train.balanced(40)


@pytest.fixture(scope="module")
def batch(train):
    return next(train.batches(14))


def networks() -> tuple[nn.Module, nn.Module]:
    return create_model("convnet", 10, in_channels=1, width=2, seed=0), create_model(
        "convnet", 10, in_channels=1, width=2, seed=1
    )


def outputs(network, images):
    with tap(network, LAYERS, copy=True) as maps:
        logits = network(images)
    return logits.detach(), [maps[path].detach() for path in LAYERS]


def gap(student, teacher, power=1.0):
    return (student - 2 * teacher).abs().pow(power).mean()  # another one from the teacher to the student


def test_a_function_of_logits_and_functions_of_layers(batch):
    student, teacher = networks()
    terms = [
        HardLabels(0.5),
        Term.of(F.l1_loss, 2.0),
        Term.of(gap, 3.0, name="logits"),
        Term.of(gap, layers=LAYERS, name="layers"),
        Term.of(partial(gap, power=2.0), lambda at: 1 - at, {"layer1": "layer1", "layer2": "layer2"},
                weights=[0.25, 3]),
    ]  # fmt: skip
    distiller = Distiller(student, teacher, terms)
    distiller.progress = 0.9
    total, values = distiller(*batch)
    (s, ours), (t, theirs) = outputs(student.train(), batch.images), outputs(teacher.eval(), batch.images)
    first, second = ((a - 2 * b) for a, b in zip(ours, theirs, strict=True))
    expected = {
        "hard labels": losses.hard_label_loss(s, batch.labels),
        "l1_loss": (s - t).abs().mean(),
        "logits": (s - 2 * t).abs().mean(),
        "layers": first.abs().mean() + second.abs().mean(),
        "gap": 0.25 * first.square().mean() + 3 * second.square().mean(),
    }
    torch.testing.assert_close(values, expected)
    weighted = zip((0.5, 2.0, 3.0, 1.0, 0.1), expected.values(), strict=True)
    torch.testing.assert_close(total, sum(weight * value for weight, value in weighted))


def test_a_module_is_a_function_whose_weights_are_trained():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, student, teacher):
            return (self.scale * student - teacher).square().mean()

    distiller = Distiller(*networks(), [Term.of(Scaled())])
    assert [term.name for term in distiller.terms] == ["Scaled"]
    assert len(list(distiller.parameters())) == 1 + len(list(distiller.student.parameters()))


def test_a_function_may_compare_images_so_processes_that_share_a_batch_have_it_whole():
    assert Term.of(gap).needs_whole_batch
    assert Term.of(gap, layers="layer1").needs_whole_batch


def test_names_of_functions(batch):
    assert [Term.of(f).name for f in (gap, partial(gap, power=3), nn.MSELoss(), F.mse_loss)] == [
        "gap", "gap", "MSELoss", "mse_loss",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"two terms have one name .* Term\.of\(…, name='gap 2'\) for inst"):
        Distiller(*networks(), [Term.of(gap), Term.of(gap, 2.0)])
    _, values = Distiller(*networks(), [Term.of(gap), Term.of(gap, name="gap 2")])(*batch)
    torch.testing.assert_close(values["gap"], values["gap 2"])


def test_a_record_tells_one_function_from_another():
    written = repr(Term.of(gap, 0.5, ["layer1"], weights=[2]))
    assert written.startswith("Term.of(0.5, layers=['layer1'], weights=[2], ")
    assert 'function={"function": "' in written
    assert written == repr(Term.of(gap, 0.5, ["layer1"], weights=[2]))
    assert " at 0x" not in written
    assert repr(Term.of(partial(gap, power=2.0))) != repr(Term.of(partial(gap, power=3.0)))
    assert repr(Term.of(nn.MSELoss())) == "Term.of(1, function=MSELoss(), name='MSELoss')"


def test_a_stopped_run_goes_on_with_its_function_and_with_no_other(train, tmp_path):
    def run(function, epochs_before_ctrl_c=None):
        def stop(curves):
            if len(curves.get("loss", ())) == epochs_before_ctrl_c:
                raise KeyboardInterrupt

        return fit(
            Distiller(*networks(), [HardLabels(), Term.of(function, layers=LAYERS)]), train, epochs=2,
            device="cpu", progress=False, checkpoint=path, on_epoch=stop,
        )  # fmt: skip

    path = tmp_path / "whole.safetensors"
    whole = run(gap).epochs
    path = tmp_path / "stopped.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(gap, 1)
    assert run(gap).epochs == whole
    assert whole["gap"][0] > 0
    with pytest.raises(ValueError, match="is of another run: its terms is"):
        run(partial(gap, power=2.0))


@pytest.mark.parametrize(
    ("function", "gives"),
    [
        (lambda s, t: (s - t).square(), r"gives a tensor of shape \(14, 10\)"),
        (lambda s, t: F.mse_loss(s, t)[None], r"gives a tensor of shape \(1,\)"),
        (lambda s, t: F.mse_loss(s, t).item(), r"gives a float"),
        (lambda _s, _t: None, "gives a NoneType"),
    ],
)
@pytest.mark.parametrize("layers", [None, "classifier"])
def test_a_function_that_gives_no_scalar(batch, function, gives, layers):
    distiller = Distiller(*networks(), [Term.of(function, layers=layers, name="mine")])
    with pytest.raises(ValueError, match=f"the function of 'mine' {gives}; have it return a tensor of one"):
        distiller(*batch)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Term.of("mse"), "function is 'mse'; give a function of what student and teacher give"),
        (
            lambda: Term.of(gap, weights=[1]),
            r"weights is \[1\], one for each pair of layers; name the layers",
        ),
        (lambda: Term.of(gap, -1), r"the weight of Term\.of is -1"),
        (lambda: Term.of(gap, layers=[]), "layers is empty"),
    ],
)
def test_settings_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_function_of_logits_needs_a_teacher():
    with pytest.raises(ValueError, match=r"Term\.of\(1, .* needs a teacher"):
        Distiller(networks()[0], None, [Term.of(gap)])
