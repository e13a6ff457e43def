"""Which images a protocol fits on and which it is tested on; the checks that labels must pass."""

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nolabel.data import named
from nolabel.data._official import SEVERAL
from nolabel.data.store import ImageStore
from nolabel.errors import DataError
from nolabel.seeds import generator

TEST_SHARE = 0.2


@dataclass(frozen=True)
class Division:
    """Training and test images of one store, with a sentence on where they come from."""

    train: Tensor
    """int64, positions in the store"""
    test: Tensor
    text: str
    validation: Tensor | None = None
    """int64, those of `train` that the data have for choosing; None: a part of `train` is drawn for it"""


def divide(store: ImageStore, seed: int) -> Division:
    """The store's own train and test splits, or a stratified fifth held out with `seed` where it has none.

    Images without a label are left out; those of a "val" split belong to the training images, and are what choices are
    made on.

    Raises:
        DataError: no labels, several labels an image, one class, a class with a single image where images must be
            held out, or a class of the test images that no training image shows.
    """
    labels, labelled = store.labels, store.labels >= 0
    missing = int((~labelled).sum())
    if missing == len(store):
        raise DataError(
            f"{store.source} has no labels: put each class into its own folder, or give a CSV with the header "
            f"path,label."
        )
    several = next((name for name in store.class_names if SEVERAL in name), None)
    if several is not None:
        raise DataError(
            f"Images of {store.source} have several labels each ({several}) and this measure knows one class an "
            f"image: take nolabel transfer, which measures each label by itself, or give one label an image."
        )
    if "test" in store.split_names:
        held = store.splits == store.split_names.index("test")
        text = store.divided or "train and test as the data have them"
    else:
        counts = torch.bincount(labels[labelled], minlength=len(store.class_names))
        for c in (counts == 1).nonzero()[:, 0].tolist():
            raise DataError(
                f"Class {store.class_names[c]} of {store.source} has one image, and fitting and testing need "
                f"one each: add images of it or leave the class out."
            )
        held = torch.zeros(len(store), dtype=torch.bool)
        held[labelled] = held_out(labels[labelled], TEST_SHARE, generator(seed, "evaluate", "test"))
        text = _held_out_in_words(seed)
    train, test = (labelled & ~held).nonzero()[:, 0], (labelled & held).nonzero()[:, 0]
    _check(store, train, test)
    validation = validation_of(store, train)
    if validation is not None:
        text += "; choices on the validation images of the data"
    return Division(train, test, text + without_label(missing), validation)


def without_label(missing: int) -> str:
    """What is said behind a division of images that have no label; nothing where there are none."""
    return f"; {missing:,} image{'s' * (missing > 1)} without a label left out" if missing else ""


def validation_of(store: ImageStore, train: Tensor) -> Tensor | None:
    """Those of `train` that are of the store's "val" split, or of its set's official validation images.

    None where there are none, or where the others are of fewer than two classes.
    """
    if "val" in store.split_names:
        part = train[store.splits[train] == store.split_names.index("val")]
    else:
        official = torch.tensor(named.validation(store.source, store.paths), dtype=torch.int64)
        part = train[torch.isin(train, official)]
    others = train[~torch.isin(train, part)]
    return part if len(part) and len(store.labels[others].unique()) > 1 else None


def hold_out(store: ImageStore, seed: int) -> ImageStore:
    """The store itself where it has a test split; else with the fifth that `divide` holds out as its test split.

    For training that must not see the images it is measured on; images without a label stay in training. Errors
    as `divide`.
    """
    division = divide(store, seed)
    if "test" in store.split_names:
        return store
    return _with_test(store, division.test, _held_out_in_words(seed))


def hold_back(store: ImageStore, seed: int) -> ImageStore:
    """`store` with a random fifth as its test split, whatever its labels: for tasks that need none.

    Raises:
        DataError: fewer than five images.
    """
    if len(store) < 1 / TEST_SHARE:
        raise DataError(
            f"{store.source} has {len(store)} images, too few to hold any back: give more of them."
        )
    return _with_test(store, any_fifth(len(store), seed).nonzero()[:, 0], any_fifth_in_words(seed))


def divided_as(store: ImageStore, divided: str, seed: int) -> ImageStore:
    """`store` as a run divided it: `divided` is what its `run.json` says of that. Errors as `hold_out`."""
    return (hold_back if divided == any_fifth_in_words(seed) else hold_out)(store, seed)


def _with_test(store: ImageStore, test: Tensor, text: str) -> ImageStore:
    splits = torch.zeros(len(store), dtype=torch.int64)
    splits[test] = 1
    chosen = hashlib.sha256(f"{store.fingerprint} without a test of".encode() + test.numpy().tobytes())
    return replace(
        store, splits=splits, split_names=("train", "test"), divided=text, fingerprint=chosen.hexdigest(), entry=None
    )  # fmt: skip


def any_fifth(n: int, seed: int) -> Tensor:
    """Bool (n,): a random fifth of n images."""
    return held_out(torch.zeros(n, dtype=torch.int64), TEST_SHARE, generator(seed, "evaluate", "test"))


def any_fifth_in_words(seed: int) -> str:
    return f"a random {TEST_SHARE:.0%} held out for the test with seed {seed}"


def _held_out_in_words(seed: int) -> str:
    return f"a stratified {TEST_SHARE:.0%} held out for the test with seed {seed}"


def check_both(store: ImageStore, train: Tensor, test: Tensor) -> None:
    """Raise DataError where there are no training or no test images."""
    for name, part in (("training", train), ("test", test)):
        if not len(part):
            raise DataError(
                f"No {name} image of {store.source} has a label: give labelled images for training and for test."
            )


def _check(store: ImageStore, train: Tensor, test: Tensor) -> None:
    check_both(store, train, test)
    seen = store.labels[train].unique()
    if len(seen) < 2:
        raise DataError(
            f"All labelled training images of {store.source} are of one class "
            f"({store.class_names[int(seen[0])]}): give images of at least two classes."
        )
    unseen = test[~torch.isin(store.labels[test], seen)]
    if len(unseen):
        c = int(store.labels[unseen[0]])
        raise DataError(
            f"Class {store.class_names[c]} of {store.source} has test images but no labelled training image: "
            f"add training images of it or take it out of the test split."
        )


def held_out(labels: Tensor, share: float, random: torch.Generator) -> Tensor:
    """Bool (n,): in each class about `share` of its images, at least one, but never all of them."""
    order = torch.randperm(len(labels), generator=random)
    order = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels)
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[order]]
    quota = (counts * share).round().long().clamp(min=1)
    quota = torch.minimum(quota, counts - 1)
    held = torch.zeros(len(labels), dtype=torch.bool)
    held[order] = rank < quota[labels[order]]
    return held


def stratified(labels: Tensor, most: int, random: torch.Generator) -> Tensor:
    """int64: at most about `most` positions, each class in proportion; all when there are no more."""
    if len(labels) <= most:
        return torch.arange(len(labels))
    return held_out(labels, most / len(labels), random).nonzero()[:, 0]
