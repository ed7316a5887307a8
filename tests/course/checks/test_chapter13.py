"""The checkers of chapter 13: right answers pass, and each plausible mistake is named."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from kdlib.course import checks


def says(number, answer, words):
    feedback = checks.check(number, answer)
    return feedback.state == "wrong" and words in feedback.message


@pytest.mark.parametrize("number", ["13.1", "13.2", "13.3", "13.4", "13.5", "13.6"])
def test_an_exercise_not_begun_is_open(number):
    assert checks.check(number, ...).state == "open"


class TestLeastAgreement:
    def test_right(self):
        # Of 100 images 20 and 5 are wrong, none in common.
        wrong = set(range(20)) | set(range(20, 25))
        assert checks.check("13.1", (100 - len(wrong)) / 100).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (75, "Give a fraction"),
            (0.8 * 0.95, "err independently"),
            (0.8 * 0.95 + 0.2 * 0.05, "independent errors"),
            (0.8, "can they be elsewhere"),
            (0.85, "look for the smallest"),
            (0.25, "they agree on the others"),
            (0, "want to or not"),
            (0.5, "at most"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("13.1", answer, words)


def consistency(student, teacher, labels):
    table = torch.zeros(2, 2, dtype=torch.float64)
    for s, t in zip(student == labels, teacher == labels, strict=True):
        table[int(s), int(t)] += 1
    table /= table.sum()
    chance = (table.sum(0) * table.sum(1)).sum()
    return ((table.trace() - chance) / (1 - chance)).item()


class TestErrorConsistency:
    def test_right(self):
        assert checks.check("13.2", consistency).state == "right"

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda found, _: found, "take off what chance gives"),
            (lambda found, chance: found - chance, "cannot reach 1"),
            (lambda found, chance: (found - chance) / chance, "not by c₀"),
        ],
    )
    def test_wrong(self, change, words):
        def wrong(student, teacher, labels):
            s, t = (student == labels).double(), (teacher == labels).double()
            chance = s.mean() * t.mean() + (1 - s.mean()) * (1 - t.mean())
            return change((s == t).double().mean(), chance).item()

        assert says("13.2", wrong, words)

    def test_agreement_in_its_place(self):
        def wrong(student, teacher, labels):
            s, t = (student == labels).double().mean(), (teacher == labels).double().mean()
            chance = s * t + (1 - s) * (1 - t)
            return ((student == teacher).double().mean() - chance) / (1 - chance)

        assert says("13.2", wrong, "different mistakes are consistent too")

    def test_only_both_right_by_chance(self):
        def wrong(student, teacher, labels):
            s, t = (student == labels).double(), (teacher == labels).double()
            return ((s == t).double().mean() - s.mean() * t.mean()) / (1 - s.mean() * t.mean())

        assert says("13.2", wrong, "lacks the images on which both are wrong")

    def test_no_function(self):
        assert "give the function itself" in checks.check("13.2", 0.3).message


class TestOverlooked:
    @pytest.mark.parametrize("answer", [{"a", "c", "d", "f"}, ["F", "d", "c", "a"]])
    def test_right(self, answer):
        assert checks.check("13.3", answer).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({"a", "b", "c", "d", "f"}, "b again: a factor for one feature"),
            ({"a", "c", "d", "e", "f"}, "e again: row k"),
            ({"a", "d", "f"}, "c again: the mean"),
            ({"c", "d", "f"}, "a again: one factor"),
            ({"a", "c", "f"}, "d again: similarities"),
            ({"a", "c", "d"}, "f again: each product"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("13.3", answer, words)

    def test_other_letters(self):
        assert "letters a to f" in checks.check("13.3", {"a", "g"}).message
        assert "give a set" in checks.check("13.3", "ac").message


def fitted(logits, labels):
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=50)

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(logits / log_t.exp(), labels)
        value.backward()
        return value

    optimizer.step(loss)
    return log_t.exp().item()


class TestFittedTemperature:
    def test_right(self):
        assert checks.check("13.4", fitted).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (lambda z, y: 1 / fitted(z, y), "the factor to multiply"),
            (lambda _z, _y: 1.0, "as they are"),
            (lambda _z, _y: 0.1, "end of the range"),
            (lambda _z, _y: 10.0, "end of the range"),
            (lambda z, y: 1.3 * fitted(z, y), "likelihood is best at"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("13.4", answer, words)


class TestSeedsNeeded:
    def test_right(self):
        widths = {n: stats.t.ppf(0.975, n - 1) * 1.5 / math.sqrt(n) for n in range(2, 50)}
        assert checks.check("13.5", min(n for n, width in widths.items() if width < 1)).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [(9, "1.96"), (11, "1.008"), (10, "1.07"), (3, "t times as wide"), (38, "half of it"), (5, "Try n")],
    )
    def test_wrong(self, answer, words):
        assert says("13.5", answer, words)

    def test_what_the_sentences_say(self):
        def half(n):
            return stats.t.ppf(0.975, n - 1) * 1.5 / n**0.5

        assert (half(11), half(10)) == (pytest.approx(1.008, abs=5e-4), pytest.approx(1.07, abs=5e-3))
        assert math.ceil((1.96 * 1.5) ** 2) == 9
        assert min(n for n in range(2, 99) if 2 * half(n) < 1) == 38


class TestSeeingTeacher:
    def test_right(self):
        assert checks.check("13.6", 0.85).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"), [(0.37, "augment=True"), (85, "Give a fraction"), (0.99, "take the student")]
    )
    def test_wrong(self, answer, words):
        assert says("13.6", answer, words)
