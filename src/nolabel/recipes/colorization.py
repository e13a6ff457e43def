"""Colorization again.

Paper (section 3 and the released solver): its own dilated net on crops of 176 px, 313 classes, ImageNet. Scaled:
`resnet10` at 32 px, ten minutes on two cores.

Settings: command; length; hardware; result (by tools/method_pages.py).

- `nolabel reproduce colorization-paper DATA`: 14 epochs; the paper gives no minutes; 8.6 s a step of 4 images on
  one Zen 4 thread, so about 440 days for the whole; not run.
- `nolabel reproduce colorization-scaled cifar10.zip`: 10 minutes; two cores of a processor; linear 62.0 %, kNN 45.9
  %, loss 3.421, constant_loss 3.676, ab_error 16.8; one seed, 10 minutes on Intel(R) Xeon(R) Processor, 2 threads,
  bfloat16, 2026-11-27.
- `nolabel reproduce colorization-caltech101 caltech101.zip`: 10 minutes; two cores of a processor; not run.
"""

from nolabel.methods.colorization import PAPER_IMAGENET, Colorization
from nolabel.recipes import CALTECH, IMAGENET, Reproduction, scaled

_BESIDE = ("Colorization Table 1", "Colorization PASCAL", "Split-brain linear")
PAPER = Reproduction(
    method="colorization", encoder="colorization_net", size=176, dataset=IMAGENET, length={"epochs": 14},
    options=PAPER_IMAGENET[0], recipe=PAPER_IMAGENET[1], protocols=("linear",), beside=_BESIDE,
    deviations=(
        "Its k-means initialisation is not built.",
        "AdamW stands for Adam with L2.",
        "Crops are half to all of the area, not 176 of 256 px.",
        "The uniform share of the weights is over all classes, not over those that occur.",
    ),
    hardware="the paper gives no minutes; 8.6 s a step of 4 images on one Zen 4 thread, "
    "so about 440 days for the whole",
)  # fmt: skip
SCALED = scaled(
    Colorization,
    _BESIDE,
    "resnet10 with a thin head on images of 32 px.",
)
CALTECH101 = scaled(
    Colorization,
    _BESIDE,
    "resnet10 with a thin head on images of 96 px, colours on a grid of 24.",
    dataset=CALTECH,
)
