"""lightly's CIFAR-10 recipe on any encoder for a number of minutes: the peer's side of the accuracy comparison.

Its own transform (strength .5, no blur), head and loss (temperature .5), SGD at .06 B/128, momentum .9, decay 5e-4,
cosine; as lightly's CIFAR-10 benchmark script has them. The cosine follows the clock, so that it ends with the budget.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from PIL import Image

from benchmarks.peers import LightlySimCLR, endless, lightly_loader
from nolabel.data.store import ImageStore
from nolabel.encoders._io import save_encoder
from nolabel.encoders.base import build
from nolabel.seeds import derive


def train(
    data: str, out: Path, *, encoder_name: str, size: int, minutes: float, batch: int, workers: int, seed: int
):
    """Train for `minutes` (loader start included), save the encoder in `out`; gives the number of views seen."""
    from lightly.loss import NTXentLoss

    store = ImageStore.open(data, size=size).split("train")
    everything = store.batch(torch.arange(len(store)))
    images = [Image.fromarray(everything.image(i).permute(1, 2, 0).numpy()) for i in range(len(store))]
    torch.manual_seed(derive(seed, "init"))
    encoder = build(encoder_name, size)
    model = LightlySimCLR(encoder, encoder.dim).train()
    loss = NTXentLoss(temperature=0.5)
    peak = 0.06 * batch / 128
    optimizer = torch.optim.SGD(model.parameters(), lr=peak, momentum=0.9, weight_decay=5e-4)
    start, views, steps = time.monotonic(), 0, 0
    for first, second in endless(lightly_loader(images, size, False, batch, workers)):
        progress = (time.monotonic() - start) / (60 * minutes)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = peak * 0.5 * (1 + math.cos(math.pi * progress))
        value = loss(model(first), model(second))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        views, steps = views + 2 * len(first), steps + 1
        if steps % 50 == 0:
            print(f"{progress:5.1%}  step {steps}  views {views}  loss {value.item():.3f}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    save_encoder(out, encoder, {"method": "lightly-simclr", "steps": steps, "views": views, "minutes": minutes,
                                "batch_size": batch, "workers": workers, "seed": seed})  # fmt: skip
    return views


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", default="resnet10")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    views = train(a.data, a.out, encoder_name=a.encoder, size=a.size, minutes=a.minutes, batch=a.batch_size,
                  workers=a.workers, seed=a.seed)  # fmt: skip
    print(f"{views} views in {a.minutes} minutes -> {a.out}")


if __name__ == "__main__":
    main()
