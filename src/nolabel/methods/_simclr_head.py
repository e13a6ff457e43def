"""SimCLR's projection head g and its simpler and deeper forms."""

from torch import nn


def projection_head(kind: str, dim: int, hidden: int, out: int) -> nn.Sequential:
    """g (section 4.2), from (B, dim) to (B, out), or to (B, dim) for `none`; `hidden` 0 means dim."""
    hidden = hidden or dim

    def block(width: int) -> list[nn.Module]:
        return [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]

    if kind == "none":
        return nn.Sequential()
    if kind == "linear":
        return nn.Sequential(nn.Linear(dim, out, bias=False))
    if kind == "mlp2":
        return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, out))
    norm = nn.BatchNorm1d(out)
    norm.register_parameter("bias", None)  # the released code's last BatchNorm scales and does not shift
    again = block(hidden) if kind == "mlp3_bn" else []
    return nn.Sequential(*block(dim), *again, nn.Linear(hidden, out, bias=False), norm)
