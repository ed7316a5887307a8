"""Training: one loop, and what it stands on."""

from kdlib.losses.inputs import DivergedError
from kdlib.training.evaluate import evaluate, predict
from kdlib.training.fit import fit
from kdlib.training.precision import choose_device
from kdlib.training.state import load_weights, save_weights

__all__ = ["DivergedError", "choose_device", "evaluate", "fit", "load_weights", "predict", "save_weights"]
