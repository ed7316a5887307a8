"""What stands between the student's feature maps and the teacher's: small trained modules, part of the loss.

Every one takes maps of the student, (N, C_s, H, W), and gives maps that can be compared with the teacher's,
(N, C_t, H_t, W_t). They are thrown away after training.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]


def resize(maps: Tensor, size: Size) -> Tensor:
    """Maps (N, C, H, W) at another size: averaged where larger, bilinear between pixels where smaller."""
    height, width = maps.shape[-2:]
    smaller = (min(height, size[0]), min(width, size[1]))
    if smaller != (height, width):
        maps = F.adaptive_avg_pool2d(maps, smaller)
    if smaller != tuple(size):
        maps = F.interpolate(maps, size, mode="bilinear", align_corners=False)
    return maps


class Regressor(nn.Module):
    """A 1×1 convolution with batch norm from the student's channels to the teacher's, for FitNets' hints.

    (N, student_channels, H, W) to ``(N, teacher_channels, *size)``. A map of another size is averaged down or
    interpolated up (`resize`) after the batch norm.

    FitNets themselves reach the teacher's size with a convolution whose kernel is large enough, and
    RepDistiller with a 3×3 one of stride 2 or a transposed one. A 1×1 convolution can do less in the
    student's place. It is also, with no size given, the connector of overhaul feature distillation (OFD).

    Args:
        student_channels: C_s, of what comes in.
        teacher_channels: C_t, of what goes out.

    Raises:
        ValueError: the maps are not (N, student_channels, H, W).

    Reference:
        Romero, Ballas, Kahou, Chassang, Gatta and Bengio, "FitNets: Hints for Thin Deep Nets", 2015; Heo,
        Kim, Yun, Park, Kwak and Choi, "A Comprehensive Overhaul of Feature Distillation", 2019.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(student_channels, teacher_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(teacher_channels)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, maps: Tensor, size: Size | None = None) -> Tensor:
        """Args: maps of the student, and the height and width of the teacher's where they differ."""
        _check_maps(maps, self.convolution.in_channels)
        regressed: Tensor = self.norm(self.convolution(maps))
        return regressed if size is None else resize(regressed, size)


class VIDRegressor(nn.Module):
    r"""What variational information distillation predicts: a mean per place and a scale per channel.

    (N, student_channels, H, W) to means of ``(N, teacher_channels, *size)``, by three 1×1 convolutions with
    ReLU between them. A map of another size is first averaged down or interpolated up (`resize`); the
    authors' code averages the teacher's map down instead where the student's is the smaller one.

    From the trained ``log_scale`` α, of shape (teacher_channels,), `kdlib.losses.vid_loss` makes variances,
    σ² = log(1 + exp α) + 10⁻⁵.

    Args:
        student_channels: C_s, of what comes in.
        teacher_channels: C_t, of what goes out, and of what lies between.
        initial_variance: σ² before training.

    Raises:
        ValueError: the initial variance is not above 10⁻⁵, or the maps are not (N, student_channels, H, W).

    Reference:
        Ahn, Hu, Damianou, Lawrence and Dai, "Variational Information Distillation for Knowledge Transfer",
        2019, section 3.
    """

    def __init__(self, student_channels: int, teacher_channels: int, initial_variance: float = 5.0) -> None:
        super().__init__()
        excess = initial_variance - 1e-5
        if not (math.isfinite(excess) and excess > 0):
            raise ValueError(f"initial_variance is {initial_variance}; give a finite number above 0.00001.")
        self.student_channels = student_channels
        self.mean = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
        )
        # log(exp v - 1), in a form that does not overflow.
        log_scale = excess + math.log(-math.expm1(-excess))
        self.log_scale = nn.Parameter(torch.full((teacher_channels,), log_scale))

    def forward(self, maps: Tensor, size: Size | None = None) -> Tensor:
        """Args: maps of the student, and the height and width of the teacher's where they differ."""
        _check_maps(maps, self.student_channels)
        mean: Tensor = self.mean(maps if size is None else resize(maps, size))
        return mean


class AttentionFusion(nn.Module):
    """One level of `ReviewFusion`: joins a student's map with what came up from the level below it.

    The map goes to `channels` by a 1×1 convolution. What came up is enlarged to its size, and the two are
    added with weights between 0 and 1 for every place, which a 1×1 convolution reads off both. The sum, at
    the teacher's size, goes up to the next level, and by a 3×3 convolution to the teacher's channels. Maps
    take another size by their nearest pixels, as in the authors' code.

    Args:
        student_channels: C_s, of the map.
        channels: of the sum.
        teacher_channels: C_t, of what goes out.
        is_deepest: nothing comes up to this level.
    """

    def __init__(
        self, student_channels: int, channels: int, teacher_channels: int, is_deepest: bool = False
    ) -> None:
        super().__init__()
        self.student_channels = student_channels
        self.enter = _conv_norm(student_channels, channels, 1)
        self.leave = _conv_norm(channels, teacher_channels, 3)
        self.attention = None if is_deepest else nn.Conv2d(2 * channels, 2, 1)

    def forward(self, maps: Tensor, below: Tensor | None, size: Size) -> tuple[Tensor, Tensor]:
        """Maps as the teacher's, ``(N, C_t, *size)``, and the sum for the next, ``(N, channels, *size)``."""
        _check_maps(maps, self.student_channels)
        fused: Tensor = self.enter(maps)
        if self.attention is not None and below is not None:
            below = _nearest(below, (fused.shape[-2], fused.shape[-1]))
            weights = self.attention(torch.cat([fused, below], dim=1)).sigmoid()
            fused = fused * weights[:, :1] + below * weights[:, 1:]
        fused = _nearest(fused, size)
        return self.leave(fused), fused


class ReviewFusion(nn.Module):
    """The student's side of knowledge review: its deeper levels join in matching each level of the teacher.

    From the deepest level up, each `AttentionFusion` joins a student's map with those below it:
    n maps (N, C_s, H, W) to n maps (N, C_t, H_t, W_t).

    Args:
        student_channels: C_s of each level, the shallowest first.
        teacher_channels: C_t of each level.
        channels: of the joined maps; the student's deepest number, at most 512, if not given.

    Raises:
        ValueError: student and teacher have not the same number of levels, or a map does not fit its level.

    Reference:
        Chen, Liu, Zhao and Jia, "Distilling Knowledge via Knowledge Review", 2021, figure 3.
    """

    def __init__(
        self, student_channels: Sequence[int], teacher_channels: Sequence[int], channels: int | None = None
    ) -> None:
        super().__init__()
        if not student_channels or len(student_channels) != len(teacher_channels):
            raise ValueError(
                f"the student has {len(student_channels)} levels and the teacher {len(teacher_channels)}; "
                "give both the same number, at least one."
            )
        channels = min(512, student_channels[-1]) if channels is None else channels
        deepest = len(student_channels) - 1
        self.levels = nn.ModuleList(
            AttentionFusion(ours, channels, theirs, is_deepest=level == deepest)
            for level, (ours, theirs) in enumerate(zip(student_channels, teacher_channels, strict=True))
        )

    def forward(self, maps: Sequence[Tensor], sizes: Sequence[Size]) -> list[Tensor]:
        """Args: the student's maps, and the heights and widths of the teacher's, the shallowest first."""
        if not len(maps) == len(sizes) == len(self.levels):
            raise ValueError(
                f"there are {len(maps)} maps and {len(sizes)} sizes for {len(self.levels)} levels; "
                "give one of each per level."
            )
        fused: list[Tensor] = []
        below = None
        for level, level_maps, size in zip(
            reversed(self.levels), reversed(maps), reversed(sizes), strict=True
        ):
            matched, below = level(level_maps, below, size)
            fused.insert(0, matched)
        return fused


def _conv_norm(in_channels: int, out_channels: int, size: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


def _nearest(maps: Tensor, size: Size) -> Tensor:
    return maps if maps.shape[-2:] == torch.Size(size) else F.interpolate(maps, size, mode="nearest")


def _check_maps(maps: Tensor, channels: int) -> None:
    if maps.ndim != 4 or maps.shape[1] != channels:
        raise ValueError(
            f"the student's maps have shape {tuple(maps.shape)}; give (N, {channels}, H, W), or build the "
            "connector for the channels they have."
        )
