"""What Jigsaw's context-free net has behind its columns (Noroozi and Favaro, section 3.2, figure 3)."""

from torch import nn

from nolabel.encoders.base import Encoder, map_shapes


def fc6(encoder: Encoder, tile: int, width: int, dropout: float) -> nn.Sequential:
    """The last map of a tile of `tile` px, (B, C, h, w), to (B, width): pool5 (3x3, stride 2, rounding up), fc6, ReLU.

    A map too small for the pool goes in as it is.
    """
    channels, side = map_shapes(encoder, tile)[-1]
    pool = [nn.MaxPool2d(3, 2, ceil_mode=True)] if side >= 3 else []
    side = -(-(side - 3) // 2) + 1 if pool else side
    return nn.Sequential(
        *pool, nn.Flatten(), nn.Linear(channels * side * side, width), nn.ReLU(), *_dropped(dropout)
    )


def joining(width: int, hidden: int, orders: int, dropout: float, normalised: bool) -> nn.Sequential:
    """All tiles of a puzzle (P, width) to its orders (P, orders), by one hidden layer (fc7 and fc8).

    `normalised`: with BatchNorm, which the paper's net has nowhere.
    """
    norm = [nn.BatchNorm1d(hidden)] if normalised else []
    return nn.Sequential(
        nn.Linear(width, hidden), *norm, nn.ReLU(), *_dropped(dropout), nn.Linear(hidden, orders)
    )


def _dropped(share: float) -> list[nn.Module]:
    return [nn.Dropout(share)] if share else []
