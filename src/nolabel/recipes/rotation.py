"""Rotation again: `nolabel reproduce rotation-paper cifar10.zip`, `nolabel reproduce rotation-scaled cifar10.zip`.

Paper (section 3.1): Network in Network of four blocks on CIFAR-10, SGD, 100 epochs; classifiers of convolutions and of
fully connected layers on the second block. `imagenet` (section 3.2): AlexNet at 224 px, 30 epochs. Scaled: `resnet10`,
ten minutes on two cores.

`nolabel reproduce rotation-caltech101 caltech101.zip`: Caltech-101 at 96 px, ten minutes on two cores; not run.
"""

from nolabel.methods.rotation import PAPER_CIFAR10, PAPER_IMAGENET, Rotation
from nolabel.recipes import CALTECH, CIFAR10, Reproduction, scaled
from nolabel.recipes import IMAGENET as IMAGENET_DATA

_BESIDE = ("RotNet CIFAR-10", "RotNet Table 1", "RotNet Table 2")
PAPER = Reproduction(
    method="rotation", encoder="nin4", size=32, dataset=CIFAR10, length={"epochs": 100},
    options=PAPER_CIFAR10[0], recipe=PAPER_CIFAR10[1], protocols=("mlp", "conv"), beside=_BESIDE,
    deviations=("The stage is chosen on a part of the training images; the paper names the second block.",),
)  # fmt: skip
IMAGENET = Reproduction(
    method="rotation", encoder="alexnet", size=224, dataset=IMAGENET_DATA, length={"epochs": 30},
    options=PAPER_IMAGENET[0], recipe=PAPER_IMAGENET[1], protocols=("linear",),
    beside=("RotNet Table 4", "RotNet Table 5"),
)  # fmt: skip
SCALED = scaled(
    Rotation,
    _BESIDE,
    "resnet10 with a frozen whitened stem, images growing along the run, AdamW.",
    hardware="two cores of an AMD EPYC (Zen 3), 10 minutes",
    result="linear 70.3 % (69.4–71.2), kNN 45.8 %, 70.4 % of turns of 1,024 random test images; one seed",
)
CALTECH101 = scaled(
    Rotation,
    _BESIDE,
    "resnet10 with a frozen whitened stem, images growing along the run to 96 px, AdamW.",
    dataset=CALTECH,
)
