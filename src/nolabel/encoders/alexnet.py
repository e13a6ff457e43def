"""AlexNet's five convolutions with BatchNorm, and the forms of it that other papers trained.

Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks" (NIPS 2012).

| name | channels | groups | normalisation | border of conv1 | from |
| --- | --- | --- | --- | --- | --- |
| `alexnet` | 64, 192, 384, 256, 256 | none | BatchNorm | 2 | RotNet's released code |
| `alexnet_context` | 96, 256, 384, 384, 256 | none | LRN; BatchNorm without scale | 5 | Context Prediction's code |
| `alexnet_jigsaw` | 96, 256, 384, 384, 256 | two | LRN | 0 | Jigsaw's released net |
| `alexnet_counting` | 96, 256, 384, 384, 256 | two | none | 0 | Counting, section 4 |

The stem follows the size of the images, or of the tiles where the task shows tiles:

| side in px | conv1 |
| --- | --- |
| up to 32 | 5×5, border 2 |
| up to 95 | 11×11, stride 2 |
| 96 and more | 11×11, stride 4 |
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.encoders.base import Encoder

SMALL_IMAGE = 32
LARGE_IMAGE = 96


@dataclass(frozen=True)
class Form:
    """One paper's AlexNet: what each of its five convolutions is followed by."""

    channels: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    groups: int = 1
    """groups of conv2, conv4 and conv5"""
    normalised: tuple[int, ...] = ()
    """numbers of the convolutions that BatchNorm follows"""
    affine: bool = True
    """whether BatchNorm has a scale and a shift of its own"""
    response: bool = False
    """local response normalisation after the two pools"""
    border: int = 0
    """zeros around the image before an 11×11 conv1"""


FORMS = {
    "alexnet": Form((64, 192, 384, 256, 256), normalised=(1, 2, 3, 4, 5), border=2),
    "alexnet_context": Form(normalised=(3, 4, 5), affine=False, response=True, border=5),
    "alexnet_jigsaw": Form(groups=2, response=True),
    "alexnet_counting": Form(groups=2),
}
PATTERN = "|".join(FORMS)
EXAMPLES = list(FORMS)


def build(name: str, size: int) -> "AlexNet":
    """The AlexNet called `name` with the stem for images or tiles of `size` px."""
    return AlexNet(name, size, FORMS[name])


class AlexNet(Encoder):
    """Maps `conv1` … `conv5` after their ReLU, and the global average of the last.

    A pool of 3×3 with stride 2 stands before conv2 and conv3, as do Caffe's, which round up; for 224 px the
    maps are those of rounding down. The pool after conv5 belongs to what the papers put on top of it.
    Convolutions start as torch's do where BatchNorm follows, else from He's normal distribution.
    """

    def __init__(self, name: str, size: int, form: Form) -> None:
        super().__init__()
        self.name, self.size, self.dim = name, size, form.channels[-1]
        self.stages = ("conv1", "conv2", "conv3", "conv4", "conv5")
        self.response = form.response
        one, two, three, four, five = form.channels
        if size <= SMALL_IMAGE:
            stem = nn.Conv2d(3, one, 5, padding=2)
        else:
            stem = nn.Conv2d(3, one, 11, 2 if size < LARGE_IMAGE else 4, padding=form.border)
        convolutions = (
            stem,
            nn.Conv2d(one, two, 5, padding=2, groups=form.groups),
            nn.Conv2d(two, three, 3, padding=1),
            nn.Conv2d(three, four, 3, padding=1, groups=form.groups),
            nn.Conv2d(four, five, 3, padding=1, groups=form.groups),
        )
        for number, convolution in enumerate(convolutions, 1):
            norm = [nn.BatchNorm2d(convolution.out_channels, affine=form.affine)]
            if number not in form.normalised:
                norm = []
                nn.init.kaiming_normal_(convolution.weight)
                nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            self.add_module(f"conv{number}", nn.Sequential(convolution, *norm, nn.ReLU(inplace=True)))

    def maps(self, images: Tensor, standardised: bool = False) -> dict[str, Tensor]:
        x = self.normalised(images, standardised)
        found = {}
        for stage in self.stages:
            if stage in ("conv2", "conv3"):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
                x = F.local_response_norm(x, 5) if self.response else x
            found[stage] = x = self.get_submodule(stage)(x)
        return found

    def forward(self, images: Tensor, standardised: bool = False) -> Tensor:
        return self.maps(images, standardised)["conv5"].mean((2, 3))

    @property
    def stem(self) -> nn.Conv2d:
        return self.get_submodule("conv1.0")  # type: ignore[return-value]
