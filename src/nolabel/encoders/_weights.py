"""Matching an encoder's weights with those of a published model: same net, other names, a head too many."""

from torch import Tensor

from nolabel.encoders.base import Encoder
from nolabel.errors import UsageError

OWN_BUFFERS = ("mean", "std")


def trunk(encoder: Encoder) -> dict[str, Tensor]:
    """The encoder's state dict without its normalisation."""
    return {key: value for key, value in encoder.state_dict().items() if key not in OWN_BUFFERS}


def published_name(encoder: Encoder) -> str:
    """The model's name at torchvision or timm, which do not say how its residual branches started."""
    return encoder.name.removeprefix("timm:").removesuffix("-open")


def match(wanted: dict[str, Tensor], given: dict[str, Tensor], here: str, there: str) -> dict[str, str]:
    """Wanted key -> given key, for two state dicts of one net.

    Every wanted key must be given in the same shape (a BatchNorm's count of batches may be missing), and what
    is given beside them may only be a head: modules of which nothing is wanted. `here` and `there` name the
    two in the message.

    Raises:
        UsageError: the nets differ; the first differing key is named.
    """
    by_name = {canonical(key): key for key in given}
    pairs: dict[str, str] = {}
    for key, value in wanted.items():
        found = by_name.get(canonical(key))
        if found is None and key.endswith("num_batches_tracked"):
            continue
        if found is None:
            raise UsageError(f"The weights of {there} do not fit {here}: they have no {key}.")
        if given[found].shape != value.shape:
            raise UsageError(
                f"The weights of {there} do not fit {here}: {found} is {tuple(given[found].shape)} "
                f"there and {tuple(value.shape)} here."
            )
        pairs[key] = found
    used = set(pairs.values())
    modules = {key.split(".")[0] for key in used}
    for key in given:
        if key not in used and key not in OWN_BUFFERS and key.split(".")[0] in modules:
            raise UsageError(f"The weights of {there} do not fit {here}: it has no {key}.")
    return pairs


def canonical(key: str) -> str:
    """A key's form that is equal for a timm model and its feature net, which writes `stem_0` for `stem.0`."""
    return key.removeprefix("net.").replace(".", "_")
