"""Training: one loop, and what it stands on."""

from kdlib.losses.inputs import DivergedError
from kdlib.training.checkpoints import load_weights, save_weights
from kdlib.training.evaluation import evaluate, predict
from kdlib.training.loop import fit
from kdlib.training.precision import choose_device

__all__ = ["DivergedError", "choose_device", "evaluate", "fit", "load_weights", "predict", "save_weights"]
