"""Exemplar again: `nolabel reproduce exemplar-paper stl10`, `nolabel reproduce exemplar-scaled cifar10.zip`.

Paper (section 4.1): 8000 seeds of 32 px from STL-10's unlabelled images of 96 px, the largest of its nets, linear SVMs
on quadrant-pooled features of all layers. Scaled: 500 seeds, `resnet10`, ten minutes on two cores.
"""

from nolabel.methods.exemplar import PAPER_STL10, Exemplar, ExemplarOptions
from nolabel.recipes import CIFAR10, Reproduction

PAPER = Reproduction(
    method="exemplar", encoder="exemplar_large", size=96, dataset="STL-10", length={"epochs": 100},
    options=PAPER_STL10[0], recipe=PAPER_STL10[1], protocols=("svm",), beside=("Exemplar Table 1",),
    deviations=(
        "Batch size and schedule are ours: the paper does not record them.",
        "Every copy of a seed is a new one; the paper keeps 150 of each.",
    ),
)  # fmt: skip
SCALED = Reproduction(
    method="exemplar", encoder="resnet10", size=32, dataset=CIFAR10, length={"minutes": 10},
    options=ExemplarOptions(), recipe=Exemplar.recipe, protocols=("linear", "knn", "svm"), beside=("Exemplar Table 1",),
    deviations=("resnet10 and 500 seeds of 16 px instead of the paper's net and 8000 seeds of 32 px.",),
)  # fmt: skip
