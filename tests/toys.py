"""A small method and encoder, and stores of random images, for tests of the loop."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from nolabel import distributed
from nolabel.data.batch import ImageBatch
from nolabel.data.store import ImageStore
from nolabel.encoders.base import Encoder
from nolabel.methods.base import DataInfo, Method, Recipe
from nolabel.runs import Run
from nolabel.training.budget import Budget
from nolabel.training.loop import Outcome, Settings, fit
from nolabel.training.precision import Numerics
from nolabel.training.progress import Progress
from nolabel.views import plain


class ToyEncoder(Encoder):
    """Two convolutions with BatchNorm."""

    name, size, stages, dim = "toy", 16, ("one", "two"), 12
    whitened = False

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())

    def maps(self, images: Tensor, standardised: bool = False) -> dict[str, Tensor]:
        first = self.one(self.normalised(images, standardised))
        return {"one": first, "two": self.two(first)}

    def forward(self, images: Tensor, standardised: bool = False) -> Tensor:
        return self.maps(images, standardised)["two"].mean((2, 3))

    @property
    def stem(self) -> nn.Conv2d:
        return self.one[0]  # type: ignore[return-value]


@dataclass(frozen=True)
class Options:
    """What can be chosen about the toy."""

    bad_from: float = 2.0
    """share of the run after which the loss is nan"""
    small_until: float = 0.5
    """share of the run with views of half the side"""
    dropout: float = 0.1
    """share of the head's outputs that is dropped"""


class Toy(Method):
    """Two noisy views of an image must agree, and views of other images must not; dropout needs the step's seed."""

    Options = Options
    recipe = Recipe(batch_size=8, optimizer="adamw", lr=0.01, warmup=0.1, epochs=2, batchnorm="reestimated")
    paper = "none"

    def __init__(self, encoder: Encoder, options: Options, data: DataInfo) -> None:
        super().__init__(encoder, options, data)
        self.head = nn.Sequential(nn.Linear(encoder.dim, 10), nn.BatchNorm1d(10), nn.Dropout(options.dropout))
        self.register_buffer("seen", torch.zeros(3))

    def prepare(self, store: ImageStore, generator: torch.Generator) -> None:
        self.seen.add_(torch.rand(3, generator=generator))

    def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        side = self.data.size // 2 if progress < self.options.small_until else self.data.size
        noise = torch.rand(n, 2, 3, 1, 1, generator=generator)
        return {
            "side": torch.tensor(side),
            "noise": noise,
            "bad": torch.tensor(progress >= self.options.bad_from),
        }

    def views(self, images: ImageBatch, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        whole = plain.whole(images, int(drawn["side"]))
        noise = 0.2 * drawn["noise"].to(whole.device)
        made = {"first": whole + noise[:, 0], "second": whole + noise[:, 1]}
        return {k: v * float("nan") if drawn["bad"] else v for k, v in made.items()}

    def forward(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        a, b = (F.normalize(self.head(self.encoder(views[name])), dim=1) for name in ("first", "second"))
        own = torch.arange(len(a), device=a.device) + distributed.rank() * len(a)
        loss = F.cross_entropy(a @ distributed.gather(b).T / 0.2, own)
        return {"loss": loss, "agreement": (a * b).sum(1).mean()}

    @torch.no_grad()
    def held_out(self, views: dict[str, Tensor]) -> dict[str, float]:
        return {"loss": self(views)["loss"].item()}

    def panel(self, images: ImageBatch, generator: torch.Generator, trained: bool = False) -> Any:
        return None


def toy_store(n: int = 40, side: int = 16, seed: int = 0, labels: bool = False) -> ImageStore:
    """n random images of `side` px; with labels, of two classes."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 3, side, side), generator=random, dtype=torch.uint8)
    return ImageStore.of(images, [i % 2 for i in range(n)] if labels else None)


def toy_method(store: ImageStore, seed: int = 0, **options: Any) -> Toy:
    """The toy for `store`, from `seed`."""
    torch.manual_seed(seed)
    return Toy(ToyEncoder(), Options(**options), DataInfo(len(store), 16))


def toy_settings(steps: int, **changes: Any) -> Settings:
    """Settings of `steps` steps in float32 that log and write at every step."""
    values: dict[str, Any] = {
        "recipe": Toy.recipe, "budget": Budget(steps=steps), "size": 16, "seed": 3,
        "numerics": Numerics("32-true", channels_last=False, compile=False), "log_every": 1, "checkpoint_seconds": 0.0,
    }  # fmt: skip
    return Settings(**values | changes)


def toy_run(folder: Path, steps: int) -> Run:
    """A run folder as `begin` leaves it, as far as `fit` reads it."""
    run = Run.create(folder, name="toy")
    run.update(method="toy", options={}, seed=3, budget={"asked": {"steps": steps}}, status="running")
    return run


def fit_toy(folder: Path, steps: int, *, run: Run | None = None, **changes: Any) -> tuple[Toy, Outcome]:
    """Train the toy on one thread: the method as it ended and how. `changes` are of the settings or of `fit`."""
    torch.set_num_threads(1)
    store = changes.pop("store", None) or toy_store()
    method = toy_method(store, **changes.pop("options", {}))
    keywords = {key: changes.pop(key) for key in ("monitors", "held_out") if key in changes}
    run = run or toy_run(folder, steps)
    try:
        outcome = fit(
            method, store, fabric=Fabric(accelerator="cpu", devices=1), settings=toy_settings(steps, **changes),
            run=run, progress=Progress(False), **keywords,
        )  # fmt: skip
    finally:
        run.close()
    return method, outcome
