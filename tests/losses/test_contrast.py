"""Contrastive distillation against a float64 reference written from the paper's formula with loops."""

import math

import numpy as np
import pytest
import torch

from kdlib import losses

SIZE, WIDTH, NEGATIVES = 20, 6, 9


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def memory(labels=None, negatives=NEGATIVES, **options):
    options = {"size": SIZE, "width": WIDTH, "generator": seeded(5), **options}
    return losses.ContrastMemory(negatives=negatives, labels=labels, **options).double()


def embeddings(count=4, seed=0):
    return torch.randn(count, WIDTH, generator=seeded(seed), dtype=torch.float64)


INDICES = torch.tensor([3, 0, 19, 7])


def reference_side(anchors, bank, drawn, temperature, normaliser, negatives):
    """One side of the loss, and Z of these draws, from probabilities as the paper writes them."""
    scores = np.zeros(drawn.shape)
    for n, k in np.ndindex(drawn.shape):
        scores[n, k] = np.exp(anchors[n] @ bank[drawn[n, k]] / temperature)
    estimate = scores.mean() * len(bank)
    z = estimate if normaliser is None else normaliser
    h = (scores / z) / (scores / z + negatives / len(bank))
    return -(np.log(h[:, 0]).sum() + np.log(1 - h[:, 1:]).sum()) / len(anchors), estimate


def reference(student, teacher, bank, drawn, temperature=0.07, normalisers=(None, None)):
    student, teacher = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (student.numpy(), teacher.numpy())
    )
    student_bank, teacher_bank = bank.student_bank.numpy(), bank.teacher_bank.numpy()
    drawn = drawn.numpy()
    one = reference_side(student, teacher_bank, drawn, temperature, normalisers[0], drawn.shape[1] - 1)
    two = reference_side(teacher, student_bank, drawn, temperature, normalisers[1], drawn.shape[1] - 1)
    return one[0] + two[0], (one[1], two[1])


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("negatives", [1, NEGATIVES])
def test_crd_loss_is_the_formula(temperature, negatives):
    student, teacher, bank = embeddings(seed=1), embeddings(seed=2), memory(negatives=negatives)
    expected, _ = reference(student, teacher, bank, bank.draw(INDICES, seeded(9)), temperature)
    actual = losses.crd_loss(student, teacher, INDICES, bank, temperature, generator=seeded(9))
    np.testing.assert_allclose(actual.item(), expected, rtol=1e-10)


def test_the_papers_form_has_no_normaliser():
    student, teacher, bank = embeddings(seed=1), embeddings(seed=2), memory()
    drawn = bank.draw(INDICES, seeded(9))
    expected, _ = reference(student, teacher, bank, drawn, 0.5, normalisers=(1.0, 1.0))
    actual = losses.crd_loss(student, teacher, INDICES, bank, 0.5, "paper", generator=seeded(9))
    np.testing.assert_allclose(actual.item(), expected, rtol=1e-10)
    assert bank.log_normalisers.isnan().all()


def test_normalisers_are_those_of_the_first_batch():
    bank = memory()
    drawn = bank.draw(INDICES, seeded(9))
    _, (first, second) = reference(embeddings(seed=1), embeddings(seed=2), bank, drawn)
    losses.crd_loss(embeddings(seed=1), embeddings(seed=2), INDICES, bank, generator=seeded(9))
    np.testing.assert_allclose(bank.log_normalisers, [math.log(first), math.log(second)], rtol=1e-10)

    drawn = bank.draw(INDICES, seeded(10))
    expected, _ = reference(embeddings(seed=3), embeddings(seed=4), bank, drawn, normalisers=(first, second))
    actual = losses.crd_loss(embeddings(seed=3), embeddings(seed=4), INDICES, bank, generator=seeded(10))
    np.testing.assert_allclose(actual.item(), expected, rtol=1e-10)
    np.testing.assert_allclose(bank.log_normalisers, [math.log(first), math.log(second)], rtol=1e-10)


def test_normalised_scores_are_about_probabilities_over_the_memory():
    """Z times the size of the memory: the scores of all rows, divided by Z, sum to about 1 on average."""
    bank = memory(negatives=5000)
    losses.crd_loss(embeddings(seed=1), embeddings(seed=2), INDICES, bank, 0.5, generator=seeded(1))
    fresh, student = memory(), embeddings(seed=1)
    student = student / student.norm(dim=1, keepdim=True)
    total = (student @ fresh.teacher_bank.T / 0.5 - bank.log_normalisers[0]).exp().sum(dim=1).mean()
    assert total == pytest.approx(1, rel=0.05)


def test_both_ways_of_scoring_agree():
    """Products with the whole bank where that is smaller, with the drawn rows otherwise."""
    student, drawn = embeddings(), torch.tensor([[1, 2], [3, 4], [5, 0], [19, 7]])
    many = torch.arange(40).remainder(SIZE).repeat(4, 1)
    bank = memory()
    for rows in (drawn, many):
        expected = [[student[n] @ bank.student_bank[k] for k in row] for n, row in enumerate(rows)]
        actual = bank.scores(student, bank.student_bank, rows)
        np.testing.assert_allclose(actual, expected, rtol=1e-12)
    assert drawn.shape[1] * WIDTH < SIZE < many.shape[1] * WIDTH, "this test takes both ways"


def test_memory_moves_towards_the_batch_after_the_loss():
    student, teacher, bank = embeddings(seed=1), embeddings(seed=2), memory(momentum=0.25)
    before = bank.student_bank.clone(), bank.teacher_bank.clone()
    losses.crd_loss(student, teacher, INDICES, bank)
    for old, new, batch in ((before[0], bank.student_bank, student), (before[1], bank.teacher_bank, teacher)):
        others = [i for i in range(SIZE) if i not in INDICES]
        torch.testing.assert_close(new[others], old[others], rtol=0, atol=0)
        for row, index in zip(batch, INDICES, strict=True):
            moved = 0.25 * old[index] + 0.75 * row / row.norm()
            torch.testing.assert_close(new[index], moved / moved.norm())


def test_memory_in_eval_mode_stays_as_it_is():
    bank = memory().eval()
    before = {name: tensor.clone() for name, tensor in bank.state_dict().items()}
    losses.crd_loss(embeddings(seed=1), embeddings(seed=2), INDICES, bank)
    for name, tensor in bank.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("negatives", [1, NEGATIVES])
def test_the_backward_pass_still_sees_the_memory_of_the_loss(negatives):
    student, teacher = embeddings(seed=1).requires_grad_(), embeddings(seed=2).requires_grad_()
    gradients = []
    for bank in (memory(negatives=negatives).train(), memory(negatives=negatives).eval()):
        loss = losses.crd_loss(student, teacher, INDICES, bank, generator=seeded(9))
        gradients.append(torch.autograd.grad(loss, (student, teacher)))
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("negatives", [1, NEGATIVES])
@pytest.mark.parametrize("form", ["paper", "code"])
def test_gradients_by_finite_differences(negatives, form):
    bank = memory(negatives=negatives).eval()
    bank.log_normalisers.fill_(2.0)  # the estimate of a first batch is a constant, not part of the gradient
    assert torch.autograd.gradcheck(
        lambda s, t: losses.crd_loss(s, t, INDICES, bank, 0.3, form, seeded(9)),
        (embeddings(seed=1).requires_grad_(), embeddings(seed=2).requires_grad_()),
    )


def test_negatives_are_other_images_each_as_likely():
    bank = memory(negatives=20_000)
    drawn = bank.draw(torch.tensor([3, 19]), seeded())
    for row, image in zip(drawn, (3, 19), strict=True):
        assert row[0] == image
        counts = torch.bincount(row[1:], minlength=SIZE).double()
        assert counts[image] == 0
        others = torch.cat([counts[:image], counts[image + 1 :]])
        expected = 20_000 / (SIZE - 1)
        chi_square = ((others - expected) ** 2 / expected).sum()
        assert chi_square < 45, (
            "18 degrees of freedom: 45 is passed once in 2500 times, and the seed is fixed"
        )


def test_negatives_are_of_other_classes():
    labels = torch.tensor([2, 0, 5, 0, 2] * 4)
    bank = memory(labels, negatives=2000)
    indices = torch.arange(SIZE)
    drawn = bank.draw(indices, seeded())
    for image in range(SIZE):
        expected = {other for other in range(SIZE) if labels[other] != labels[image]}
        assert set(drawn[image, 1:].tolist()) == expected


def test_same_generator_same_bits():
    results = [
        losses.crd_loss(embeddings(seed=1), embeddings(seed=2), INDICES, memory(), generator=seeded(seed))
        for seed in (0, 0, 1)
    ]
    assert results[0] == results[1] != results[2]


def test_without_a_generator_pytorchs_own_decides():
    results = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            results.append(losses.crd_loss(embeddings(seed=1), embeddings(seed=2), INDICES, memory()))
    assert results[0] == results[1] != results[2]


def test_memory_survives_saving_and_loading():
    labels = torch.arange(SIZE) % 3
    bank, loaded = memory(labels), memory(labels, generator=seeded(6))
    losses.crd_loss(embeddings(seed=1), embeddings(seed=2), INDICES, bank)
    loaded.load_state_dict(bank.state_dict())
    results = [
        losses.crd_loss(embeddings(seed=3), embeddings(seed=4), INDICES, each, generator=seeded(1))
        for each in (bank, loaded)
    ]
    assert results[0] == results[1]


def test_loss_falls_as_both_learn_to_agree():
    """Teacher's embeddings fixed, student's trained: it learns which image is which."""
    teacher = torch.randn(SIZE, WIDTH, generator=seeded(2))
    student = torch.randn(SIZE, WIDTH, generator=seeded(1)).requires_grad_()
    bank = memory().float()
    optimiser = torch.optim.SGD([student], lr=0.5)
    cosine = torch.nn.functional.cosine_similarity(student, teacher).mean().item()
    for step in range(60):
        loss = losses.crd_loss(student, teacher, torch.arange(SIZE), bank, 0.3, generator=seeded(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.nn.functional.cosine_similarity(student, teacher).mean() > cosine + 0.5


def test_lengths_do_not_matter():
    student, teacher = embeddings(seed=1), embeddings(seed=2)
    results = [
        losses.crd_loss(scale * student, teacher / scale, INDICES, memory(), generator=seeded(1))
        for scale in (1.0, 1e-3, 1e4)
    ]
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_embeddings_give_finite_values_and_gradients(scale):
    student = (scale * embeddings(seed=1).float()).requires_grad_()
    loss = losses.crd_loss(student, -student.detach(), INDICES, memory().float())
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_under_autocast(dtype):
    student, teacher = embeddings(seed=1).to(dtype), embeddings(seed=2).to(dtype)
    exact = losses.crd_loss(student.double(), teacher.double(), INDICES, memory(), generator=seeded(1))
    bank = memory().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = losses.crd_loss(student, teacher, INDICES, bank, generator=seeded(1))
    assert loss.dtype == bank.student_bank.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-4, atol=0)


def test_one_image_is_a_batch_like_any_other():
    bank, index = memory(), torch.tensor([4])
    drawn = bank.draw(index, seeded(1))
    expected, _ = reference(embeddings(1, 1), embeddings(1, 2), bank, drawn)
    actual = losses.crd_loss(embeddings(1, 1), embeddings(1, 2), index, bank, generator=seeded(1))
    np.testing.assert_allclose(actual.item(), expected, rtol=1e-10)


def test_order_of_the_batch_does_not_matter():
    bank = memory(
        torch.tensor([0] * 19 + [1]), negatives=3
    )  # one other class of one image: nothing is left to chance
    student, teacher, indices = embeddings(3, 1), embeddings(3, 2), torch.tensor([3, 0, 7])
    order = torch.tensor([2, 0, 1])
    bank.eval()
    torch.testing.assert_close(
        losses.crd_loss(student[order], teacher[order], indices[order], bank),
        losses.crd_loss(student, teacher, indices, bank),
    )


class TestBadInput:
    def test_embeddings(self):
        with pytest.raises(ValueError, match=r"student embeddings have shape \(6,\).*one column per feature"):
            losses.crd_loss(torch.zeros(6), torch.zeros(6), INDICES, memory())
        with pytest.raises(ValueError, match=r"\(4, 6\) and teacher features \(3, 6\)"):
            losses.crd_loss(embeddings(4), embeddings(3), INDICES, memory())
        with pytest.raises(ValueError, match="embeddings have width 6 and the memory 7"):
            losses.crd_loss(embeddings(), embeddings(), INDICES, memory(width=7))

    def test_embeddings_that_are_not_finite_leave_the_memory_alone(self):
        broken, bank = embeddings(), memory()
        broken[1, 2] = float("nan")
        before = bank.student_bank.clone()
        with pytest.raises(ValueError, match="student embeddings hold nan in row 1"):
            losses.crd_loss(broken, embeddings(), INDICES, bank)
        torch.testing.assert_close(bank.student_bank, before, rtol=0, atol=0)

    def test_indices(self):
        with pytest.raises(ValueError, match=r"indices have shape \(2,\).*give 4 positions"):
            losses.crd_loss(embeddings(), embeddings(), INDICES[:2], memory())
        with pytest.raises(ValueError, match=r"torch\.float32; give 4 positions"):
            losses.crd_loss(embeddings(), embeddings(), INDICES.float(), memory())
        for index in (-1, SIZE):
            with pytest.raises(
                ValueError, match=rf"index {index} is out of range; the memory has rows 0 to 19"
            ):
                losses.crd_loss(embeddings(1), embeddings(1), torch.tensor([index]), memory())

    def test_temperature_and_form(self):
        with pytest.raises(ValueError, match=r"temperature is 0.*above 0"):
            losses.crd_loss(embeddings(), embeddings(), INDICES, memory(), temperature=0)
        with pytest.raises(ValueError, match="form is 'exact'; choose one of paper, code"):
            losses.crd_loss(embeddings(), embeddings(), INDICES, memory(), form="exact")

    @pytest.mark.parametrize(("name", "number"), [("size", 0), ("width", 1), ("negatives", 0)])
    def test_counts_of_the_memory(self, name, number):
        """Of width 1, embeddings of length 1 are ±1, whatever the networks compute."""
        with pytest.raises(ValueError, match=f"{name} is {number}; give {number + 1} or more"):
            memory(**{name: number})

    @pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
    def test_momentum(self, momentum):
        with pytest.raises(ValueError, match=f"momentum is {momentum}; give a share"):
            memory(momentum=momentum)

    def test_labels(self):
        with pytest.raises(ValueError, match=r"labels have shape \(3,\).*all 20 training images"):
            memory(torch.zeros(3, dtype=torch.int64))
        with pytest.raises(ValueError, match="all training images are of one class"):
            memory(torch.zeros(SIZE, dtype=torch.int64))
