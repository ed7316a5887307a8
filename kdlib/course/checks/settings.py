"""The parameters of a chapter, looked at before anything is trained."""

from kdlib.experiments.recipes import PROFILES
from kdlib.training import choose_device


def parameters(profile: str, seed: int, n_seeds: int, device: str, **counts: int) -> None:
    """Refuse what a chapter could not use, in one sentence; its first cell of code calls this.

    Args:
        profile: "quick", "short" or "full".
        seed: the first one, 0 or more.
        n_seeds: 2 or more, because the chapters give intervals over seeds.
        device: "auto", "cpu" or "cuda", for example.
        counts: the chapter's other whole numbers, 1 or more: epochs, for example.

    Raises:
        ValueError: a parameter is none of these.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile is {profile!r}; choose 'quick', 'short' or 'full'.")
    least = {"seed": 0, "n_seeds": 2} | dict.fromkeys(counts, 1)
    for name, value in {"seed": seed, "n_seeds": n_seeds, **counts}.items():
        if type(value) is not int or value < least[name]:
            why = ", because an interval over seeds needs two" if name == "n_seeds" else ""
            raise ValueError(f"{name} is {value!r}; give a whole number, {least[name]} or more{why}.")
    choose_device(device)
