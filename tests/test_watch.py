"""What is asked of held-out images while a run goes on: in every precision, on the device of the run."""

import copy
import math

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from nolabel import catalog, distributed, seeds
from nolabel.encoders import base as encoders
from nolabel.encoders.base import Encoder
from nolabel.methods.base import DataInfo, Method
from nolabel.training.launch import make_fabric
from nolabel.training.step import ViewSource
from nolabel.training.watch import Watch
from nolabel.views import plain
from toys import toy_method, toy_store


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
@pytest.mark.parametrize("name", catalog.names("methods"))
def test_every_method_is_asked_about_held_out_images_in_the_precision_of_the_run(
    name: str, precision: str
) -> None:
    kind, store = catalog.load("methods", name, Method), toy_store(8, 32)
    options, data = kind.Options(), DataInfo(len(store), 32)
    method = kind(encoders.build("resnet10", kind.encoder_size(options, data)), options, data)
    method.prepare(store, seeds.generator(0, "prepare"))

    def monitor(encoder: Encoder, step: int) -> dict[str, float]:
        return {"mean": encoder(plain.whole(store.batch(torch.arange(8)), 32)).mean().item()}

    kept, fabric = copy.deepcopy(method.encoder), make_fabric(precision)
    fabric.setup_module(method)
    watch = Watch(fabric, ViewSource(method, store, 4, 0, False), toy_store(4, 32, seed=1), [monitor], 32)
    row = watch.measure(kept.eval(), 1, 1)
    assert row.keys() > {"rankme", "mean", "held_out/images"}
    assert all(math.isfinite(value) for value in row.values())


def test_means_over_processes_are_taken_on_the_device_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collective of GPUs (NCCL) takes no tensor of the processor."""
    seen = []

    def mean(x: Tensor) -> Tensor:
        seen.append(x.device.type)
        return torch.zeros(x.shape)

    store = toy_store()
    source, fabric = ViewSource(toy_method(store), store, 8, 0, False), Fabric(accelerator="cpu", devices=1)
    watch = Watch(fabric, source, store, (), 16)
    monkeypatch.setattr(distributed, "mean", mean)
    monkeypatch.setattr(Fabric, "device", torch.device("meta"))
    assert watch.measure(None, 1, 1)["held_out/loss"] == 0
    assert seen
    assert set(seen) == {"meta"}
