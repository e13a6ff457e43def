"""Views per second end to end: SimCLR, `resnet10`, two views of 256 images of CIFAR-10, against the limit and lightly.

The limit is the same step (encoder, head, loss, backward, optimizer; same batch, precision and layout) on views that
already lie in memory. lightly runs in a process of its own, which stands still while nolabel has its turn; its number
of workers is the one of 0 to 4 with which its whole loop was fastest. A last row compares the step's multiply-adds
with a large float32 matrix product.
"""

import time
from collections.abc import Callable, Iterator

import torch
from lightning_fabric import Fabric
from PIL import Image

from benchmarks import peers
from benchmarks.elsewhere import Elsewhere
from benchmarks.pairs import Row, compare
from benchmarks.views import method
from nolabel.data.feed import Feed
from nolabel.data.store import ImageStore
from nolabel.encoders.base import build
from nolabel.memory import keep_freed
from nolabel.seeds import derive
from nolabel.training.optim import build_optimizer
from nolabel.training.precision import Numerics, choose
from nolabel.training.step import ViewSource, train_step

BATCH, SIDE, ENCODER = 256, 32, "resnet10"
SETTLING = 4
"""calls of lightly's loop before it is timed: its workers begin with batches made ahead, which must be used up"""


class Ours:
    """nolabel's loop: views made ahead, and the step that training runs."""

    def __init__(self, store: ImageStore) -> None:
        keep_freed()
        torch.manual_seed(derive(0, "init"))
        self.method = method(SIDE, blur=False)
        probe = ViewSource(self.method, store, BATCH, 0, channels_last=False).views(0, 0.0)
        precision, channels_last = choose(self.method, probe, "auto", None)
        self.numerics = Numerics(precision, channels_last, compile=False)
        self.fabric = Fabric(accelerator="auto", devices=1, precision=precision)
        self.source = ViewSource(self.method, store, BATCH, 0, channels_last)
        if channels_last:
            self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model, self.optimizer = self.fabric.setup(
            self.method, build_optimizer(self.method, self.method.recipe)
        )
        self.resident = self.source.views(0, 0.0)
        self.feed = Feed(lambda step: self.source.views(step, 0.0), 0, 10**9, ahead=1)
        self.coming = iter(self.feed)

    def step(self, views: dict[str, torch.Tensor]) -> None:
        train_step(self.fabric, self.model, self.optimizer, views, 1e-3, 0, 0)

    def end_to_end(self, steps: int) -> Callable[[], int]:
        def work() -> int:
            for _ in range(steps):
                self.step(next(self.coming))
            return steps * 2 * BATCH

        return work

    def limit(self, steps: int) -> Callable[[], int]:
        def work() -> int:
            for _ in range(steps):
                self.step(self.resident)
            return steps * 2 * BATCH

        return work


def lightly(
    images: list[Image.Image], workers: int, steps: int, tuned: bool = False, bfloat16: bool = False
) -> Callable[[], int]:
    torch.manual_seed(0)
    encoder = build(ENCODER, SIDE)
    step = peers.lightly_step(
        peers.LightlySimCLR(encoder, encoder.dim), BATCH, tuned=tuned, bfloat16=bfloat16
    )
    coming = peers.endless(peers.lightly_loader(images, SIDE, False, BATCH, workers))

    def work() -> int:
        for _ in range(steps):
            step(next(coming))
        return steps * 2 * BATCH

    return work


def best_workers(images: list[Image.Image], steps: int) -> int:
    """The number of loader workers, 0 to 4, with which lightly's loop as it ships does most steps a second."""
    seconds = {}
    for workers in range(5):
        with Elsewhere(lightly, images, workers, steps) as work:
            for _ in range(SETTLING):
                work()
            start = time.perf_counter()
            work()
            seconds[workers] = time.perf_counter() - start
    return min(seconds, key=seconds.__getitem__)


def multiply_adds(side: int) -> float:
    """Multiply-adds of one view's training step: three times the forward pass of encoder and head."""
    from torch.utils.flop_counter import FlopCounterMode

    model = method(side, blur=False)
    with FlopCounterMode(display=False) as counter:
        model({"views": torch.rand(4, 3, side, side)})
    return 3 * counter.get_total_flops() / 2 / 4


def matrix_product(side: int = 2048) -> tuple[str, Callable[[], int]]:
    a, b = torch.rand(side, side), torch.rand(side, side)

    def work() -> int:
        until, done = time.perf_counter() + 1.0, 0
        while time.perf_counter() < until:
            a @ b
            done += side**3
        return done

    return f"float32 product {side}²", work


def rows(data: str, pairs: int, steps: int = 3) -> Iterator[Row]:
    """The comparisons, each when it is done; lightly in bfloat16 only where bfloat16 was measured to pay."""
    store = ImageStore.open(data, size=SIDE).split("train")
    ours = Ours(store)
    some = store.batch(torch.arange(4 * BATCH))
    images = [Image.fromarray(some.image(i).permute(1, 2, 0).numpy()) for i in range(4 * BATCH)]
    workers = best_workers(images, steps)
    label = f"nolabel ({ours.numerics.precision}{', channels_last' if ours.numerics.channels_last else ''})"
    what = f"end to end, {ENCODER}, {BATCH} images"
    end_to_end = (label, ours.end_to_end(steps))
    yield compare(what, end_to_end, ("the limit", ours.limit(steps)), pairs=pairs, unit="views/s")
    forms = [("as it ships", False, False), ("channels_last, compiled", True, False)]
    if ours.numerics.precision == "bf16-mixed":
        forms.append(("channels_last, compiled, bfloat16", True, True))
    for name, tuned, bfloat16 in forms:
        with Elsewhere(lightly, images, workers, steps, tuned, bfloat16) as theirs:
            yield compare(
                what, end_to_end, (f"lightly, {name}, {workers} workers", theirs), pairs=pairs, unit="views/s",
                warm=SETTLING,
            )  # fmt: skip
    cost = multiply_adds(SIDE)

    def step_work() -> int:
        return int(cost * ours.limit(steps)())

    yield compare(
        "multiply-adds", ("the limit's step", step_work), matrix_product(), pairs=pairs, unit="MAC/s"
    )
