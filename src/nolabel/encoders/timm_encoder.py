"""Any convolutional network of timm, as `timm:NAME` (`timm:resnet18`, `timm:convnext_atto`).

Its feature maps become `stage1`, `stage2`, … in timm's order, and the last is averaged over its places. What
timm puts after that map (a last 1×1 convolution of MobileNet, say) counts as its head. The normalisation is
the model's.
"""

import contextlib
import difflib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from nolabel.encoders.base import Encoder
from nolabel.errors import UsageError

PATTERN = r"timm:.+"
EXAMPLES = ["timm:resnet18", "timm:mobilenetv3_small_100", "timm:convnext_atto"]


def build(name: str, size: int) -> "TimmEncoder":
    """The timm model that `name` gives after `timm:`, with random weights.

    Raises:
        UsageError: timm is missing, has no such model (the nearest is suggested), or the model gives no maps
            for images of `size` px and of larger sizes.
    """
    return TimmEncoder(name, size)


class TimmEncoder(Encoder):
    """Feature maps of a timm model and the average of the last."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        model = name.removeprefix("timm:")
        timm = require_timm(model)
        self.name, self.size = name, size
        try:
            self.net: Any = timm.create_model(model, features_only=True)
        except Exception as error:  # timm has no type of its own for a model without feature maps
            raise _no_maps(name, size, error) from None
        channels = self.net.feature_info.channels()
        self.stages = tuple(f"stage{number}" for number in range(1, len(channels) + 1))
        self.dim = channels[-1]
        with torch.no_grad():
            self.mean.copy_(torch.tensor(self.net.pretrained_cfg["mean"]).view(3, 1, 1))
            self.std.copy_(torch.tensor(self.net.pretrained_cfg["std"]).view(3, 1, 1))
        self._try_out(channels)

    def maps(self, images: Tensor, standardised: bool = False) -> dict[str, Tensor]:
        return dict(zip(self.stages, self.net(self.normalised(images, standardised)), strict=True))

    def forward(self, images: Tensor, standardised: bool = False) -> Tensor:
        return self.net(self.normalised(images, standardised))[-1].mean((2, 3))

    @property
    def stem(self) -> nn.Conv2d:
        return next(m for m in self.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3)

    @torch.no_grad()
    def _try_out(self, channels: Sequence[int]) -> None:
        """Refuse a model that is not convolutional: only running it at two sizes shows that."""
        self.eval()
        try:
            for side in (self.size, self.size + 32):
                found = [m.shape for m in self.maps(torch.zeros(1, 3, side, side)).values()]
                if [shape[1] for shape in found] != channels or any(len(shape) != 4 for shape in found):
                    raise ValueError(f"its outputs are {[tuple(shape) for shape in found]}")
        except Exception as error:  # whatever the model's own code raises at a size that it was not made for
            raise _no_maps(self.name, self.size, error) from None
        self.train()


def pretrained(name: str, otherwise: str) -> tuple[dict[str, Tensor], Sequence[float], Sequence[float]]:
    """State dict, mean and standard deviation of timm's trained model for the encoder `name`.

    Read from the cache of the hub that timm uses, else downloaded; only safetensors, where timm itself would
    fall back on a pickle. `otherwise` is what a person can do where they cannot be had.

    Raises:
        UsageError: timm is missing, or has no such model or no weights for it, or the hub cannot be reached.
    """
    model = name.removeprefix("timm:")
    timm = require_timm(model)
    source = timm.get_pretrained_cfg(model)
    if source is None or not source.hf_hub_id:
        raise UsageError(f"timm has no weights for {model}: {otherwise}.")
    try:
        file = _download(source.hf_hub_id)
    except Exception as error:  # the hub's client raises errors of several libraries
        raise UsageError(
            f"timm's weights of {model} cannot be downloaded ({_first_line(error)}): "
            f"connect to the network or {otherwise}."
        ) from None
    net = timm.create_model(model, pretrained=True, pretrained_cfg_overlay={"file": file})
    return net.state_dict(), source.mean, source.std


def _download(repository: str) -> str:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import LocalEntryNotFoundError

    file = "model.safetensors"
    with contextlib.suppress(LocalEntryNotFoundError):
        return hf_hub_download(repository, file, local_files_only=True)
    # Fails at once where there is no network; the download itself would try for a minute.
    get_hf_file_metadata(hf_hub_url(repository, file), timeout=10)
    return hf_hub_download(repository, file)


def require_timm(model: str) -> ModuleType:
    """The package timm, once it is known to have `model`, or a UsageError."""
    try:
        import timm
    except ModuleNotFoundError:
        raise UsageError(f"timm:{model} needs the package timm: pip install 'nolabel[timm]'.") from None
    architecture = model.split(".")[0]
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), 1, 0.5)
        hint = f"did you mean timm:{near[0]}?" if near else "timm.list_models() lists those it has."
        raise UsageError(f"timm has no model named {architecture!r}: {hint}")
    return timm


def _no_maps(name: str, size: int, error: Exception) -> UsageError:
    return UsageError(
        f"{name} gives no feature maps for images of {size} px and more ({_first_line(error)}): "
        f"choose larger images or a convolutional model, such as timm:resnet18."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
