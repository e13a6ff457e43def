"""Rotation again.

Paper (section 3.1): Network in Network of four blocks on CIFAR-10, SGD, 100 epochs; classifiers of convolutions and of
fully connected layers on the second block. `imagenet` (section 3.2): AlexNet at 224 px, 30 epochs. Scaled: `resnet10`,
ten minutes on two cores.

Settings: command; length; hardware; result (by tools/method_pages.py).

- `nolabel reproduce rotation-paper cifar10.zip`: 100 epochs; the paper gives no minutes; 1.4 s a step of 32 images
  on one Zen 4 thread, so about 2.5 days for the whole; not run.
- `nolabel reproduce rotation-imagenet DATA`: 30 epochs; about 2,900 minutes (two days) of a Titan X in the paper;
  not run.
- `nolabel reproduce rotation-scaled cifar10.zip`: 10 minutes; two cores of a processor; linear 72.3 %, kNN 49.9 %,
  loss 0.5775 (chance 1.39), accuracy 0.7754 (chance 0.25); one seed, 10 minutes on AMD EPYC, 2 threads, bfloat16,
  2026-11-27.
- `nolabel reproduce rotation-caltech101 caltech101.zip`: 10 minutes; two cores of a processor; not run.
"""

from nolabel.methods.rotation import PAPER_CIFAR10, PAPER_IMAGENET, Rotation
from nolabel.recipes import CALTECH, CIFAR10, Reproduction, scaled
from nolabel.recipes import IMAGENET as IMAGENET_DATA

_BESIDE = ("RotNet CIFAR-10", "RotNet Table 1", "RotNet Table 2")
PAPER = Reproduction(
    method="rotation", encoder="nin4", size=32, dataset=CIFAR10, length={"epochs": 100},
    options=PAPER_CIFAR10[0], recipe=PAPER_CIFAR10[1], protocols=("mlp", "conv"), beside=_BESIDE,
    deviations=("The stage is chosen on a part of the training images; the paper names the second block.",),
    hardware="the paper gives no minutes; 1.4 s a step of 32 images on one Zen 4 thread, "
    "so about 2.5 days for the whole",
)  # fmt: skip
IMAGENET = Reproduction(
    method="rotation", encoder="alexnet", size=224, dataset=IMAGENET_DATA, length={"epochs": 30},
    options=PAPER_IMAGENET[0], recipe=PAPER_IMAGENET[1], protocols=("linear",),
    beside=("RotNet Table 4", "RotNet Table 5"),
    deviations=(
        "A linear probe is measured on stages pooled to at most 4,096 values, and stage and L2 are chosen on a part of "
        "the training images; the paper's linear heads read about 9,000 values of every stage.",
        "The heads of table 4 have hidden layers: `nolabel evaluate RUN DATA --protocols mlp` measures one.",
        "Images are resized bilinearly.",
    ),
    hardware="about 2,900 minutes (two days) of a Titan X in the paper",
)  # fmt: skip
SCALED = scaled(
    Rotation,
    _BESIDE,
    "resnet10 with a frozen whitened stem, images growing along the run, AdamW.",
)
CALTECH101 = scaled(
    Rotation,
    _BESIDE,
    "resnet10 with a frozen whitened stem, images growing along the run to 96 px, AdamW.",
    dataset=CALTECH,
)
