"""Exemplar again: `nolabel reproduce exemplar-paper stl10`, `nolabel reproduce exemplar-scaled cifar10.zip`.

Paper (section 4.1): 8000 seeds of 32 px from STL-10's unlabelled images of 96 px, the largest of its nets, linear SVMs
on quadrant-pooled features of all layers, one for each of STL-10's ten folds of 1,000 training images. The table's
columns CIFAR-10 and CIFAR-10(400) are `nolabel evaluate RUN cifar10 --protocols svm --set svm.enlarge=2`, and
`--set svm.per_class=400` too. Scaled: 500 seeds, `resnet10`, ten minutes on two cores.

`nolabel reproduce exemplar-caltech101 caltech101.zip`: Caltech-101 at 96 px, ten minutes on two cores; not run.
"""

from nolabel.evaluation.svm import SVM, SVMOptions
from nolabel.methods.exemplar import PAPER_STL10, Exemplar
from nolabel.recipes import CALTECH, Reproduction, scaled

PAPER = Reproduction(
    method="exemplar", encoder="exemplar_large", size=96, dataset="STL-10", length={"epochs": 100},
    options=PAPER_STL10[0], recipe=PAPER_STL10[1], protocols=(SVM(SVMOptions(folds=True)),),
    beside=("Exemplar Table 1",),
    deviations=(
        "Batch size and schedule are ours: the paper does not record them.",
        "Seeds are cut at one scale, and factors spread evenly in the logarithm: the paper does not record either.",
    ),
)  # fmt: skip
SCALED = scaled(
    Exemplar,
    ("Exemplar Table 1",),
    "resnet10 and 500 seeds of 16 px instead of the paper's net and 8000 seeds of 32 px.",
    protocols=("linear", "knn", "svm"),
    hardware="two cores of an AMD EPYC (Zen 3), 10 minutes beside other programs",
    result="linear 67.1 % (66.1–68.0), kNN 52.8 %, 88.2 % of unseen copies of its seeds; one seed",
)
CALTECH101 = scaled(
    Exemplar,
    ("Exemplar Table 1",),
    "resnet10 and 500 seeds of 32 px, the paper's side, instead of its net and 8000 seeds.",
    dataset=CALTECH,
    protocols=("linear", "knn", "svm"),
)
