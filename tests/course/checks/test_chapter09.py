"""The checkers of chapter 9: right answers pass, and each plausible mistake is named."""

import math

import pytest
import torch

from kdlib.course import checks
from kdlib.experiments import published

COMMAND = (
    "kd run cifar/methods/cifar100/110-20/st --profile full --device cuda:1 --seed 5 "
    "--set training.batch_size=64 --set training.learning_rate=0.05"
)


def says(number, answer, words):
    feedback = checks.check(number, answer)
    return feedback.state == "wrong" and words in feedback.message


@pytest.mark.parametrize("number", ["9.1", "9.2", "9.3", "9.4", "9.5", "9.6", "9.7"])
def test_an_exercise_not_begun_is_open(number):
    assert checks.check(number, ...).state == "open"


class TestUnaskedImages:
    def test_right(self):
        def bounds(accuracy, images, batch_size):
            dropped = images % batch_size
            right = accuracy * (images - dropped)
            return right / images, (right + dropped) / images

        assert checks.check("9.1", bounds).state == "right"

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            (lambda right, dropped, n: (right / (n - dropped), (right + dropped) / (n - dropped)), "all the"),
            (lambda right, dropped, n: (right / (n - dropped), (right + dropped) / n), "accuracy falls"),
            (lambda right, dropped, n: (right / n, right / (n - dropped)), "accuracy rises"),
            (
                lambda right, dropped, n: (
                    right / (n - dropped) - dropped / n,
                    right / (n - dropped) + dropped / n,
                ),
                "cannot take any away",
            ),
            (lambda right, dropped, n: ((right + dropped) / n, right / n), "lowest comes first"),
            (lambda *_: (0.0, 1.0), "were not scored"),
        ],
    )
    def test_wrong(self, wrong, words):
        def answer(accuracy, images, batch_size):
            dropped = images % batch_size
            return wrong(accuracy * (images - dropped), dropped, images)

        assert says("9.1", answer, words)

    def test_no_two_numbers(self):
        assert "two numbers" in checks.check("9.1", lambda *_: 0.5).message


class TestSameCommand:
    @pytest.mark.parametrize(
        "command",
        [
            COMMAND,
            COMMAND.replace("--seed 5", "--seed=5").replace("0.05", "5e-2"),
            "kd run --set training.learning_rate=.05 --seed 5 --set 'training.batch_size=64' --device cuda:1 "
            "--profile full cifar/methods/cifar100/110-20/st",
        ],
    )
    def test_right(self, command):
        assert checks.check("9.2", command).state == "right"

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("kd run", "python main.py", "begin with 'kd run'"),
            ("cifar/methods/cifar100/110-20/st", "", "names no recipe"),
            ("cifar/methods", "cifar/fsp-first", "DATA/PAIR/METHOD"),
            ("cifar100", "cifar10", "CIFAR-100 was asked for"),
            ("110-20", "20-110", "teacher first"),
            ("110-20", "20-20", "ResNet-110 teaches"),
            ("/st", "/soft", "called st"),
            ("--profile full", "", "on the digits"),
            ("cuda:1", "cuda:2", "counted from 0"),
            ("--seed 5", "--seed 0", "seed is 5"),
            ("training.batch_size", "batch_size", "training.batch_size"),
            ("0.05", "0.1", "training.learning_rate"),
            ("--seed 5", "--seed 5 --set data.name=cifar100", "its own data"),
            ("--seed 5", "--seed 5 --set training.epochs=100", "nobody asked"),
        ],
    )
    def test_wrong(self, old, new, words):
        assert says("9.2", COMMAND.replace(old, new), words)

    def test_no_string(self):
        assert "as a string" in checks.check("9.2", 5).message


def share(right, images):
    return right[:, images].double().mean(dim=1)


class TestWorthOfPicking:
    def test_right(self):
        def worth(right, chosen, others):
            best = share(right, chosen).argmax()
            return (right[best, others].sum() - right[-1, others].sum()) / len(others)

        assert checks.check("9.3", worth).state == "right"

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            (lambda picked, *_: picked.max() - picked[-1], "judge it on the others"),
            (lambda _, judged, __: judged.max() - judged[-1], "only to judge"),
            (lambda picked, judged, _: judged[picked.argmax()], "take off that of the last"),
            (lambda _, judged, every: judged[every.argmax()] - judged[-1], "All images have picked"),
            (lambda picked, judged, _: judged[-1] - judged[picked.argmax()], "sign is turned"),
            (lambda picked, judged, _: picked.max() - judged[-1], "other images"),
            (lambda picked, judged, _: 100 * (judged[picked.argmax()] - judged[-1]), "in points"),
            (lambda *_: torch.tensor(0.123), "is worth"),
        ],
    )
    def test_wrong(self, wrong, words):
        def answer(right, chosen, others):
            return wrong(share(right, chosen), share(right, others), share(right, torch.arange(40)))

        assert says("9.3", answer, words)


class TestNumbers:
    @pytest.mark.parametrize(("number", "answer"), [("9.4", 4000), ("9.5", -0.1452)])
    def test_right(self, number, answer):
        assert checks.check(number, answer).state == "right"

    @pytest.mark.parametrize(
        ("number", "answer", "words"),
        [
            ("9.4", 1000, "pulls less"),
            ("9.4", 250, "has to grow"),
            ("9.4", 2000, "four times the places"),
            ("9.4", 500, "not the side"),
            ("9.4", 16000, "only the divisor"),
            ("9.4", 3, "How many more places"),
            ("9.5", 0.6 - 1.96 * 0.3 / math.sqrt(3), "Student's t is 4.30"),
            ("9.5", 0.6 - 4.3027 * 0.3, "by √3"),
            ("9.5", 0.6 - 3.1824 * 0.3 / math.sqrt(3), "two degrees of freedom"),
            ("9.5", 0.6 - 2.92 * 0.3 / math.sqrt(3), "one-sided"),
            ("9.5", 0.6 - 4.3027 * math.sqrt(0.06 / 3), "n − 1"),
            ("9.5", 0.6 + 4.3027 * 0.3 / math.sqrt(3), "upper end"),
            ("9.5", 4.3027 * 0.3 / math.sqrt(3), "half the width"),
            ("9.5", 0.6, "mean itself"),
            ("9.5", 7, "Mean minus t"),
        ],
    )
    def test_wrong(self, number, answer, words):
        assert says(number, answer, words)


class TestFewerToPickFrom:
    def test_right(self):
        assert checks.check("9.6", {2: 0.1, 10: 0.4, 40: 1.0}).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({2: -0.1, 10: -0.4, 40: -1.0}, "Picking flatters"),
            ({2: 0.001, 10: 0.004, 40: 0.01}, "looks like a fraction"),
            ({2: 1.0, 10: 1.0, 40: 1.0}, "All three are the same"),
            ({2: 1.0, 10: 0.4, 40: 0.9}, "the more it flatters"),
            ({2: -0.1, 10: 0.4, 40: 1.0}, "Even of two epochs"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("9.6", answer, words)


class TestLastColumn:
    def test_right(self):
        assert checks.check("9.7", "ST + AT").state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"), [("AT", "but for rounding"), ("ST", "1.75"), ("baseline", "no row with a gain")]
    )
    def test_wrong(self, answer, words):
        assert says("9.7", answer, words)

    def test_the_gains_in_its_answers_are_those_of_the_table(self):
        table = published("001-methods")
        columns = [name for name in table.columns if name != "avg"]
        average = {row: sum(table.cell(row, name).value for name in columns) / 4 for row in table.rows}
        for row in ("Logits", "ST", "AT", "FSP"):
            gain, printed = 100 * (average[row] - average["baseline"]), table.cell(row, "avg").printed
            message = checks.check("9.7", row).message
            assert f"comes to {gain:.3g}," in message
            assert f"{message.split(', and ')[1].split(' is printed')[0]})" in printed

    def test_no_name(self):
        assert "row's name" in checks.check("9.7", 1.25).message
