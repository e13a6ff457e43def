"""BatchNorm over the images of all processes, on processors too (torch's own needs a GPU)."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nolabel import distributed
from nolabel.errors import UsageError

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class CrossRankBatchNorm(_BatchNorm):
    """BatchNorm whose batch is that of all processes; parameters and buffers have the same names as in torch's.

    The variance over processes is the mean of their variances plus the mean squared deviation of their means. The
    gradient passes through both (`distributed.gather` sums it over ranks), so that under DDP's division it equals
    that of one process that holds the whole batch. Every process must hold equally many images.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any (B, C, ...) is accepted."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or distributed.world() == 1:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            x = input.to(self.running_mean.dtype) if self.running_mean is not None else input
            axes = [axis for axis in range(x.ndim) if axis != 1]
            shape = [1, -1] + [1] * (x.ndim - 2)
            parts = distributed.gather(torch.stack([x.mean(axes), x.var(axes, correction=0)])[None])
            mean = parts[:, 0].mean(0)
            var = (parts[:, 1] + (parts[:, 0] - mean).square()).mean(0)
            self._track(mean.detach(), var.detach(), x.numel() // x.shape[1] * distributed.world())
            scale = torch.rsqrt(var + self.eps)
            if self.weight is not None:
                scale = scale * self.weight
            out = (x - mean.view(shape)) * scale.view(shape)
            return out if self.bias is None else out + self.bias.view(shape)

    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var * (count / (count - 1)), share)


def synchronise(module: nn.Module, device: torch.device) -> None:
    """Replace every BatchNorm inside `module`, in place: by torch's synchronised one on CUDA, else by the above.

    Raises:
        UsageError: a layer is a BatchNorm of another make (with an activation inside), which neither can replace.
    """
    for name, child in module.named_children():
        if isinstance(child, PLAIN) and type(child) in PLAIN:
            setattr(module, name, _synchronised(child, device))
        elif isinstance(child, _BatchNorm):
            raise UsageError(
                f"{type(child).__name__} cannot be synchronised over processes: train this encoder with --devices 1."
            )
        else:
            synchronise(child, device)


def _synchronised(norm: _BatchNorm, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    new = CrossRankBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    new.weight, new.bias = norm.weight, norm.bias
    new.running_mean, new.running_var = norm.running_mean, norm.running_var
    new.num_batches_tracked = norm.num_batches_tracked
    return new.train(norm.training)
