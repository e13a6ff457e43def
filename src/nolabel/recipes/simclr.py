"""SimCLR again: `nolabel reproduce simclr-paper cifar10.zip`, `nolabel reproduce simclr-scaled cifar10.zip`.

Paper (appendix B.9): ResNet-50 with the small stem on CIFAR-10, LARS, batches of 1024, 1000 epochs, linear probe.
`imagenet` (section 2.3): ResNet-50 at 224 px, batches of 4096, 100 epochs. Scaled: `resnet10`, ten minutes on two
cores.

`nolabel reproduce simclr-caltech101 caltech101.zip`: Caltech-101 at 96 px, ten minutes on two cores; not run.
"""

from nolabel.methods.simclr import PAPER_CIFAR10, PAPER_IMAGENET, SimCLR, SimCLROptions
from nolabel.recipes import CALTECH, CIFAR10, Reproduction, scaled
from nolabel.recipes import IMAGENET as IMAGENET_DATA

PAPER = Reproduction(
    method="simclr", encoder="resnet50", size=32, dataset=CIFAR10, length={"epochs": 1000},
    options=PAPER_CIFAR10[0], recipe=PAPER_CIFAR10[1], protocols=("linear",), beside=("solo-learn", "lightly CIFAR-10"),
)  # fmt: skip
IMAGENET = Reproduction(
    method="simclr", encoder="resnet50", size=224, dataset=IMAGENET_DATA, length={"epochs": 100},
    options=PAPER_IMAGENET[0], recipe=PAPER_IMAGENET[1], protocols=("linear",),
    beside=("SimCLR Table 6", "SimCLR Table 7"),
)  # fmt: skip
SCALED = scaled(
    SimCLR,
    ("solo-learn", "lightly CIFAR-10"),
    "resnet10 with a frozen whitened stem, views growing along the run, four views of 32 images, AdamW.",
    hardware="two cores of an AMD EPYC (Zen 3), 10 minutes",
    result="linear 70.8 % (69.9–71.7), kNN 57.6 % (56.6–58.5); one seed",
)
CALTECH101 = scaled(
    SimCLR,
    ("SimCLR Table 8",),
    "resnet10 with a frozen whitened stem, views growing along the run to 96 px, AdamW.",
    dataset=CALTECH,
    options=SimCLROptions(colour_strength=1.0, blur_p=0.5),
)
