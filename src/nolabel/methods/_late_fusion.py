"""What the nets that join tiles or patches late have behind their columns: fc6 of each, then what sees all of them.

Noroozi and Favaro, ECCV 2016, section 3.2 (the context-free net); Doersch, Gupta, Efros, ICCV 2015, section 3 and the
released code (the pair net, whose BatchNorm has no scale and shift: with them the net learns to switch layers off).
"""

from torch import nn

from nolabel.encoders.base import Encoder, map_shapes


def column(encoder: Encoder, side: int, width: int, dropout: float) -> nn.Sequential:
    """Jigsaw's fc6: the last map of a tile of `side` px, (B, C, h, w), to (B, width)."""
    return nn.Sequential(*_fc6(encoder, side, width), nn.ReLU(), *_dropped(dropout))


def joining(width: int, hidden: int, orders: int, dropout: float, normalised: bool) -> nn.Sequential:
    """Jigsaw's fc7 and fc8: all tiles of a puzzle (P, width) to its orders (P, orders).

    `normalised`: with BatchNorm, which the paper's net has nowhere.
    """
    norm = [nn.BatchNorm1d(hidden)] if normalised else []
    return nn.Sequential(
        nn.Linear(width, hidden), *norm, nn.ReLU(), *_dropped(dropout), nn.Linear(hidden, orders)
    )


def twin(encoder: Encoder, side: int, width: int, affine: bool) -> nn.Sequential:
    """The pair net's fc6: the last map of a patch of `side` px, (B, C, h, w), to (B, width)."""
    return nn.Sequential(*_fc6(encoder, side, width), nn.BatchNorm1d(width, affine=affine), nn.ReLU())


def pair(width: int, hidden: int, deep: bool, affine: bool) -> nn.Sequential:
    """Two patches side by side (P, 2 width) to the eight places (P, 8).

    One hidden layer, or with `deep` the paper's two, fc7 and fc8, before fc9; `affine`: BatchNorm with scale and shift.
    """
    more = [nn.Linear(hidden, hidden), nn.ReLU()] if deep else []
    first = nn.Linear(2 * width, hidden, bias=deep)
    norm = nn.BatchNorm1d(hidden, affine=affine)
    return nn.Sequential(first, norm, nn.ReLU(), *more, nn.Linear(hidden, 8))


def _fc6(encoder: Encoder, side: int, width: int) -> list[nn.Module]:
    """pool5 (3x3, stride 2, rounding up) and a linear layer; a map too small for the pool goes in as it is."""
    channels, side = map_shapes(encoder, side)[-1]
    pool = [nn.MaxPool2d(3, 2, ceil_mode=True)] if side >= 3 else []
    side = -(-(side - 3) // 2) + 1 if pool else side
    return [*pool, nn.Flatten(), nn.Linear(channels * side * side, width)]


def _dropped(share: float) -> list[nn.Module]:
    return [nn.Dropout(share)] if share else []
