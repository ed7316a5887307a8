"""Distillation losses: pure functions, student first, teacher second, tensors in, tensor out.

One file per kind of knowledge. Every function states its formula, its shapes and its paper. Where a paper and
its authors' code differ, `form="paper"` and `form="code"` are both there. The default is the paper's form,
except where the weights of the literature belong to the code (`attention_transfer_loss`, `crd_loss`).
"""

from kdlib.losses.attention import attention_map, attention_transfer_loss
from kdlib.losses.contrast import ContrastMemory, crd_loss
from kdlib.losses.features import hint_loss, ofd_loss, ofd_margin, review_loss, vid_loss
from kdlib.losses.flow import fsp_loss, fsp_matrix
from kdlib.losses.logits import (
    dist_loss,
    dkd_loss,
    hard_label_loss,
    logit_mse_loss,
    soft_target_loss,
    softened,
    standardize_logits,
)
from kdlib.losses.relations import (
    correlation_congruence_loss,
    nst_loss,
    pkt_loss,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
)

__all__ = [
    "ContrastMemory",
    "attention_map",
    "attention_transfer_loss",
    "correlation_congruence_loss",
    "crd_loss",
    "dist_loss",
    "dkd_loss",
    "fsp_loss",
    "fsp_matrix",
    "hard_label_loss",
    "hint_loss",
    "logit_mse_loss",
    "nst_loss",
    "ofd_loss",
    "ofd_margin",
    "pkt_loss",
    "review_loss",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "similarity_preserving_loss",
    "soft_target_loss",
    "softened",
    "standardize_logits",
    "vid_loss",
]
