"""Counting again.

Paper (section 4): AlexNet on tiles of 112 px, 1000 counts, ImageNet, 300,000 steps. Scaled: `resnet10` on images of
32 px, ten minutes on two cores.

Settings: command; length; hardware; result (by tools/method_pages.py).

- `nolabel reproduce counting-paper DATA`: 30 epochs; the paper gives no minutes; 0.60 s a step of 8 images on one
  Zen 4 thread, so about 33 days for the whole; not run.
- `nolabel reproduce counting-scaled cifar10.zip`: 10 minutes; two cores of a processor; linear 67.3 · 67.2 · 67.3
  %, kNN 40.6 · 39.7 · 40.8 %, loss 3.623 (chance 10), ratio 0.9207, active 31; 3 seeds, 10 minutes on Intel(R)
  Xeon(R) Processor, 2 threads, bfloat16, 2026-11-27.
- `nolabel reproduce counting-caltech101 caltech101.zip`: 10 minutes; two cores of a processor; not run.
"""

from nolabel.methods.counting import PAPER_IMAGENET, Counting
from nolabel.recipes import CALTECH, IMAGENET, Reproduction, scaled

_BESIDE = ("Counting linear", "Counting PASCAL")
PAPER = Reproduction(
    method="counting", encoder="alexnet_counting", size=224, dataset=IMAGENET, length={"epochs": 30},
    options=PAPER_IMAGENET[0], recipe=PAPER_IMAGENET[1], protocols=("linear",), beside=_BESIDE,
    deviations=(
        "Batch size and length are ours: the paper does not give them.",
        "Bilinear is the antialiased triangle: at half the size OpenCV's is the mean of four pixels, as its area is.",
        "The other image comes from the batch and is grey or not by its own draw: five passes of the net, not six.",
    ),
    hardware="the paper gives no minutes; 0.60 s a step of 8 images on one Zen 4 thread, "
    "so about 33 days for the whole",
)  # fmt: skip
SCALED = scaled(Counting, _BESIDE, "resnet10, fewer counts, tiles of 16 px: little content, a demonstration.")
CALTECH101 = scaled(Counting, _BESIDE, "resnet10, 128 counts, tiles of 48 px.", dataset=CALTECH)
