"""Distillation losses: pure functions, student first, teacher second, tensors in, tensor out.

One file per kind of knowledge. Every function states its formula, its shapes and its paper.
"""

from kdlib.losses.logits import hard_label_loss, logit_mse_loss, soft_target_loss, softened

__all__ = ["hard_label_loss", "logit_mse_loss", "soft_target_loss", "softened"]
