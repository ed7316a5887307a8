"""Checkers for the exercises of chapter 9."""

import math
import re
import shlex
from typing import Any

import torch

from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise


@exercise("9.1")
def unasked_images(answer: Any) -> str | None:
    for accuracy, images, batch_size in ((0.75, 1000, 128), (0.920573, 10_000, 128), (0.5, 600, 50)):
        scored = images // batch_size * batch_size
        left_out, right = images - scored, round(accuracy * scored)
        low, high = _two_numbers(answers.called(answer, accuracy, images, batch_size))
        case = f"for {accuracy:.4g}, {images:,} images and batches of {batch_size}"
        slips = {
            (right / scored, (right + left_out) / scored): "Divide by all the images, not by those scored.",
            (accuracy, (right + left_out) / images): "If the images left out are all wrong, accuracy falls.",
            (right / images, accuracy): "If the images left out are all right, accuracy rises.",
            (accuracy - left_out / images, accuracy + left_out / images): (
                "The images left out are not among those that are right, so that they cannot take any away."
            ),
            ((right + left_out) / images, right / images): "The lowest comes first.",
        }
        for (slip_low, slip_high), sentence in slips.items():
            if left_out and _close(low, slip_low) and _close(high, slip_high):
                return f"{sentence} It gives {low:.4f} and {high:.4f} {case}."
        if not (_close(low, right / images) and _close(high, (right + left_out) / images)):
            return (
                f"It gives {low:.4f} and {high:.4f} {case}, where {left_out} images were not scored "
                f"and {right} of the others are right."
            )
    return None


@exercise("9.2")
def same_command(answer: Any) -> str | None:
    if not isinstance(answer, str):
        raise TypeError(f"the answer is {answer!r}; give the command as a string.")
    words = shlex.split(answer)
    if words[:2] != ["kd", "run"]:
        return f"It begins with {' '.join(words[:2])!r}; it should begin with 'kd run'."
    names = [word for word in words[2:] if word.startswith("cifar/")]
    if not names:
        return "It names no recipe, such as cifar/methods/cifar10/20-20/baseline."
    if feedback := _wrong_recipe(names[0]):
        return feedback
    given = _options(words)
    wanted = {
        "profile": ("full", "Without --profile full it would run on the digits."),
        "device": ("cuda:1", "GPUs are counted from 0, so the second is cuda:1."),
        "seed": ("5", "The seed is 5."),
        "training.batch_size": ("64", "The batch size is the setting training.batch_size."),
        "training.learning_rate": ("0.05", "The learning rate is the setting training.learning_rate."),
    }
    for key, (value, sentence) in wanted.items():
        if not _same_value(given.pop(key, None), value):
            return sentence
    if "data.name" in given:
        return "Setting data.name by hand leaves the teacher with its own data; the name has it already."
    return f"It also has {next(iter(given))}, which nobody asked for." if given else None


@exercise("9.3")
def worth_of_picking(answer: Any) -> str | None:
    generator = torch.Generator().manual_seed(0)
    right = torch.rand(12, 40, generator=generator) < torch.linspace(0.4, 0.8, 12)[:, None]
    # Picked by `chosen`, by all images or by `others`, the best is another epoch, and never the last.
    for row, on_chosen, on_others in ((4, 20, 9), (9, 18, 17), (7, 6, 19), (11, 14, 12)):
        right[row] = torch.arange(20).repeat(2) < torch.tensor([on_chosen, on_others]).repeat_interleave(20)
    chosen, others = torch.arange(20), torch.arange(20, 40)
    value = answers.result(answer, right, chosen, others, shape=())
    picked, judged = (right[:, part].double().mean(dim=1) for part in (chosen, others))
    epoch = picked.argmax()
    slips = {
        "That is the gain on the images that picked the epoch; judge it on the others.": (
            picked[epoch] - picked[-1]
        ),
        "The others have picked the epoch themselves; they are only to judge it.": judged.max() - judged[-1],
        "That is the accuracy at the epoch; take off that of the last epoch.": judged[epoch],
        "All images have picked the epoch, those of `others` among them.": (
            judged[right.double().mean(dim=1).argmax()] - judged[-1]
        ),
        "The sign is turned: best epoch minus last.": judged[-1] - judged[epoch],
        "The best on `chosen` is compared with the last on `others`, which are other images.": (
            picked[epoch] - judged[-1]
        ),
        "It is in points; give a fraction.": 100 * (judged[epoch] - judged[-1]),
    }
    right = judged[epoch] - judged[-1]
    otherwise = f"It gives {value:.4g} where the epoch is worth {right:.4g}."
    return answers.compared(value, right, slips, otherwise)


@exercise("9.4")
def larger_pictures(answer: Any) -> str | None:
    slips = {
        1000.0: "With the same weight it pulls less: the mean is over more places.",
        250.0: "The other way round: the loss becomes smaller, so the weight has to grow.",
        2000.0: "Twice the side is four times the places.",
        500.0: "The other way round, and count places, not the side.",
        16000.0: "The maps' length is 1 at any size; only the divisor counts, once.",
    }
    return answers.number(
        answer, 4000.0, slips, "How many more places has a map, if the picture is twice as wide and as high?"
    )


@exercise("9.5")
def three_pairs(answer: Any) -> str | None:
    error = 0.3 / math.sqrt(3)
    slips = {
        0.6
        - 1.96 * error: "That is with 1.96, the value for very many pairs; with three, Student's t is 4.30.",
        0.6 - 4.3027 * 0.3: "That is where a single difference may lie; the mean scatters less, by √3.",
        0.6 - 3.1824 * error: "Three values have two degrees of freedom.",
        0.6 - 2.9200 * error: "That is the one-sided value of t; the interval has 2.5 % on each side.",
        0.6 - 4.3027 * math.sqrt(0.06) / math.sqrt(3): (
            "The standard deviation of a sample divides by n − 1, which makes it 0.3."
        ),
        0.6 + 4.3027 * error: "That is the upper end.",
        4.3027 * error: "That is half the width of the interval; take it off the mean.",
        0.6: "That is the mean itself.",
    }
    return answers.number(
        answer,
        0.6 - 4.30265 * error,
        slips,
        "Mean minus t times the standard deviation over √3, with t = 4.30.",
    )


@exercise("9.6")
def fewer_to_pick_from(answer: Any) -> str | None:
    two, ten, all_of_them = answers.measured(answer, 2, 10, 40)
    if max(two, ten, all_of_them) <= 0:
        return "Picking flatters; subtract the gain on the other half from that where it was picked."
    if all_of_them < 0.1:
        return f"{all_of_them:.3g} for 40 epochs looks like a fraction; in points it is a hundred times that."
    if two == ten == all_of_them:
        return "All three are the same; pick among of[-last:], the last epochs of each run."
    if not two < ten < all_of_them:
        return "The more there is to pick from, the more it flatters; of[-10:] are the last ten epochs."
    if two < 0:
        return "Even of two epochs the better is flattered; average over all runs and 200 cuts of each."
    return None


@exercise("9.7")
def last_column(answer: Any) -> str | None:
    if not isinstance(answer, str):
        raise TypeError(f"the answer is {answer!r}; give the row's name, as a string.")
    gains = {"Logits": (1.00, "+1.0"), "ST": (1.75, "+1.8"), "AT": (0.625, "+0.65"), "FSP": (0.45, "+0.5")}
    if answer in gains:
        gain, printed = gains[answer]
        return f"{answer} comes to {gain:.3g}, and {printed} is printed, which is that but for rounding."
    if answer == "ST + AT":
        return None
    return f"{answer!r} is no row with a gain; those are {', '.join(gains)} and ST + AT."


def _two_numbers(value: Any) -> tuple[float, float]:
    try:
        low, high = (float(number) for number in value)
    except (TypeError, ValueError):
        raise TypeError(f"the function returns {value!r}; return two numbers, lowest and highest.") from None
    return low, high


def _close(value: float, expected: float) -> bool:
    return math.isclose(value, expected, rel_tol=0, abs_tol=2e-6)


def _wrong_recipe(name: str) -> str | None:
    parts = name.split("/")
    if len(parts) != 5 or parts[1] != "methods":
        return f"The recipe is {name}; one of the table is called cifar/methods/DATA/PAIR/METHOD."
    _, _, data, pair, method = parts
    if data != "cifar100":
        return f"That recipe is for {data}, and CIFAR-100 was asked for."
    if pair == "20-110":
        return "The pair names the teacher first: 110-20."
    if pair != "110-20":
        return f"The pair is {pair}; here a ResNet-110 teaches a ResNet-20."
    if method != "st":
        return f"The method is {method}; soft targets are called st."
    return None


def _options(words: list[str]) -> dict[str, str]:
    """Options and settings of a command by name; the options' names without their dashes."""
    text = re.sub(r"(--\w+)=", r"\1 ", shlex.join(words)).replace("'", "")
    found = dict(re.findall(r"--(profile|device|seed) (\S+)", text))
    return found | dict(re.findall(r"--set ([\w.]+)=(\S+)", text))


def _same_value(given: str | None, wanted: str) -> bool:
    try:
        return given is not None and float(given) == float(wanted)
    except ValueError:
        return given == wanted
