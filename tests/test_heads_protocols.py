"""Heads on frozen maps: RotNet's sizes, joint training, what is chosen on what, and how `evaluate` runs them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nolabel.data.store import ImageStore
from nolabel.encoders._io import encoder_digest
from nolabel.encoders.base import Encoder, build
from nolabel.errors import DataError, RunError, UsageError
from nolabel.evaluation import _head_training as heads
from nolabel.evaluation import _stage_heads, conv, mlp, supervised
from nolabel.evaluation._features import extract
from nolabel.evaluation._head_training import Plan, Setting
from nolabel.evaluation._split import divide
from nolabel.evaluation.base import Features, Network
from nolabel.evaluation.conv import Conv, ConvOptions
from nolabel.evaluation.linear import Linear, LinearOptions
from nolabel.evaluation.mlp import MLP, MLPOptions
from nolabel.evaluation.run import evaluate_encoder
from nolabel.evaluation.supervised import Supervised, SupervisedOptions
from nolabel.views import plain
from small import TinyNet
from test_features import store_of

QUICK = MLPOptions(steps=12, choice_steps=6, batch_size=16)


def tiny(store: ImageStore | None = None, name: str = "tiny") -> Features:
    """A small net with its images."""
    torch.manual_seed(0)
    encoder = TinyNet(8)
    images = store_of(60, size=8) if store is None else store
    division = divide(images, 0)
    with torch.no_grad():
        encoder(plain.whole(images.batch(division.train), 8))
    return extract(encoder.eval(), images, division, name=name, size=8)


def net(subject: Features) -> Network:
    assert subject.network is not None
    return subject.network


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_heads_have_the_sizes_of_the_paper() -> None:
    assert count(mlp.head((192, 8, 8), 10)) == 2_500_410
    assert count(conv.head((192, 8, 8), 10)) == 408_586


def test_the_conv_head_on_two_blocks_is_the_supervised_net() -> None:
    blocks = build("nin3", 32)
    below = sum(count(blocks.get_submodule(stage)) for stage in ("conv1", "conv2"))
    assert below + count(conv.head((192, 8, 8), 10)) == 1_005_642


@pytest.mark.parametrize("head", [mlp.head, conv.head])
def test_heads_take_maps_of_any_size(head: _stage_heads.Build) -> None:
    for shape in ((32, 32, 32), (64, 24, 24), (256, 3, 3), (16, 9, 12)):
        assert head(shape, 7)(torch.rand(2, *shape)).shape == (2, 7)


def test_weights_start_by_fan_out_and_biases_at_zero() -> None:
    layers = mlp.head((192, 8, 8), 100)
    first, _, last = (layer for layer in layers if isinstance(layer, nn.Linear))
    assert float(first.weight.detach().std()) == pytest.approx(math.sqrt(2 / 2000), rel=0.01)
    assert float(last.weight.detach().std()) == pytest.approx(math.sqrt(2 / 100), rel=0.01)
    assert not last.bias.any()


def test_rates_fall_as_in_the_released_code_or_as_a_cosine() -> None:
    rotnet = Plan(100, 8, drops=conv.DROPS)
    assert [0.1 * rotnet.rate(step) for step in (0, 34, 35, 70, 85)] == pytest.approx(
        [0.1, 0.1, 0.02, 0.004, 0.0008]
    )
    cosine = Plan(100, 8)
    assert [cosine.rate(step) for step in (0, 50)] == pytest.approx([1, 0.5])
    assert cosine.rate(99) < 0.001


def test_images_come_in_one_random_order_after_another() -> None:
    order = heads._orders(5, 13, 0)
    assert len(order) == 13
    assert sorted(order[:5].tolist()) == sorted(order[5:10].tolist()) == list(range(5))
    assert order[:5].tolist() != order[5:10].tolist()


def test_views_are_the_image_moved_and_mirrored() -> None:
    subject, rows = tiny(), torch.arange(20)
    plainly = plain.whole(net(subject).store.batch(rows), 8)
    views = {
        name: heads._views(net(subject), rows, name, torch.Generator().manual_seed(0))
        for name in ("none", "shift", "crop")
    }
    torch.testing.assert_close(views["none"], plainly)
    assert all(view.shape == (20, 3, 8, 8) for view in views.values())
    assert not torch.equal(views["crop"], plainly)
    # Moved by at most one pixel: the inner square of the view is found in the image or its mirror image.
    for view, image in zip(views["shift"], plainly, strict=True):
        places = [
            one[:, 1 + dy : 7 + dy, 1 + dx : 7 + dx]
            for one in (image, image.flip(-1))
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ]
        assert any(torch.equal(view[:, 1:7, 1:7], place) for place in places)


def test_candidates_trained_together_are_those_trained_alone() -> None:
    subject = tiny()
    settings, plan = [Setting(0.1, 5e-4), Setting(0.01)], Plan(4, 16, "shift")
    together = _stage_heads.stage_heads(subject, mlp.head, ["stage1", "stage2"], settings, 0)
    _stage_heads.fit_heads(subject, together, subject.train, plan, 0)
    (alone,) = _stage_heads.stage_heads(subject, mlp.head, ["stage2"], settings[1:], 0)
    _stage_heads.fit_heads(subject, [alone], subject.train, plan, 0)
    assert (together[3].stage, together[3].setting) == (alone.stage, alone.setting)
    for one, other in zip(together[3].module.parameters(), alone.module.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_trainings_are_in_bfloat16_where_it_is_fast_and_say_so(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "fast_precision", lambda device: precision)
    subject, layer, plan = tiny(), nn.Linear(192, 3), Plan(2, 16, "none")
    seen = []

    def forward(images: Tensor) -> list[Tensor]:
        seen.append(layer(images.flatten(1)))
        return seen[-1:]

    heads.fit(forward, [(layer, Setting(0.1))], subject, subject.train, plan, 0)
    low = {"bf16-mixed": torch.bfloat16, "32-true": torch.float32}[precision]
    assert [one.dtype for one in seen] == [low] * 2
    assert layer.weight.dtype == torch.float32
    assert plan.described(subject)["precision"] == precision
    # what is told of it is told in float32
    (scores,) = heads.scores_of(forward, subject, subject.test)
    assert seen[-1].dtype == scores.dtype == torch.float32


def test_a_step_is_nesterov_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """One linear layer on a fixed batch against the update written out, in float32."""
    monkeypatch.setattr(heads, "fast_precision", lambda device: "32-true")
    subject, setting = tiny(), Setting(0.1, 0.01)
    layer, plan = nn.Linear(192, 3), Plan(3, 60, "none", drops=(2.0,))
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    heads.fit(lambda x: [layer(x.flatten(1))], [(layer, setting)], subject, subject.train, plan, 0)
    x = plain.whole(net(subject).store.batch(subject.train), 8).flatten(1).repeat(5, 1)
    y = subject.labels[subject.train].repeat(5)
    order = heads._orders(40, 180, 0)
    velocity = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for picked in order.split(60):
        p = torch.softmax(x[picked] @ weight.T + bias, 1) - nn.functional.one_hot(y[picked], 3)
        slopes = [p.T @ x[picked] / 60 + 0.01 * weight, p.mean(0) + 0.01 * bias]
        velocity = [0.9 * v + g for v, g in zip(velocity, slopes, strict=True)]
        weight, bias = (
            w - 0.1 * (g + 0.9 * v) for w, g, v in zip((weight, bias), slopes, velocity, strict=True)
        )
    torch.testing.assert_close(layer.weight.detach(), weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layer.bias.detach(), bias, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "protocol", [MLP(QUICK), Conv(ConvOptions(steps=12, choice_steps=6, batch_size=16, unfrozen_steps=4))]
)
def test_a_head_learns_and_leaves_the_encoder_as_it_was(protocol: MLP | Conv) -> None:
    subject = tiny(store_of(180, size=8))
    before = encoder_digest(net(subject).encoder)
    rows = protocol.run(subject, 3)
    assert encoder_digest(net(subject).encoder) == before
    assert [row.metric for row in rows[:2]] == ["top1", "balanced"]
    for row in rows:
        assert row.low is not None
        assert row.high is not None
        assert 0 <= row.low <= row.value <= row.high <= 1
        assert (row.n, row.seeds) == (60, (3,))
        assert set(row.chosen["stages"]) == {"stage1", "stage2"}
        assert row.setting["steps"] == 12
    assert rows[0].value > 0.5
    names = {row.protocol for row in rows}
    assert names == ({"conv", "conv_finetuned"} if isinstance(protocol, Conv) else {"mlp"})
    assert rows == protocol.run(subject, 3)


def test_shuffled_labels_give_chance() -> None:
    store = store_of(450, size=8)
    shuffled = store.labels[torch.randperm(450, generator=torch.Generator().manual_seed(1))]
    row = MLP(QUICK).run(tiny(replace(store, labels=shuffled)), 0)[0]
    assert abs(row.value - 1 / 3) < 0.13  # 3.4 standard errors of 150 images


def test_test_images_decide_nothing() -> None:
    store = store_of(90, size=8)
    pixels = store.pixels.clone()
    pixels[store.offsets[75] :] = 255
    one, other = (MLP(QUICK).run(tiny(images), 0)[0] for images in (store, replace(store, pixels=pixels)))
    assert one.chosen == other.chosen
    assert one.predictions is not None
    assert other.predictions is not None
    assert (one.predictions[:15] == other.predictions[:15]).all()


def test_a_rate_is_chosen_and_one_that_diverges_is_not() -> None:
    row = MLP(replace(QUICK, lr=(1e30, 0.1))).run(tiny(), 0)[0]
    assert row.chosen["lr"] == 0.1
    assert len(row.chosen["settings"]) == 2


def test_classes_with_one_training_image_leave_nothing_to_choose_by() -> None:
    store = store_of(9, size=8)
    splits = torch.tensor([0] * 3 + [1] * 6)
    row = MLP(QUICK).run(tiny(replace(store, splits=splits)), 0)[0]
    assert (row.chosen["stage"], row.chosen["validation"]) == ("stage2", None)


def one_sentence(message: str) -> None:
    assert message.endswith(".")
    assert "\n" not in message


def test_weights_that_are_not_finite_are_refused_in_one_sentence() -> None:
    subject = tiny(name="broken")
    with torch.no_grad():
        net(subject).encoder.stem.weight[0] = math.nan
    with pytest.raises(RunError, match="features of broken are not finite") as caught:
        MLP(QUICK).run(subject, 0)
    one_sentence(str(caught.value))


def test_an_encoder_for_other_channels_is_refused_in_one_sentence() -> None:
    encoder = TinyNet(8)
    encoder.one[0] = nn.Conv2d(1, 8, 3)
    with pytest.raises(UsageError, match="takes images of 1 channel and these are RGB") as caught:
        evaluate_encoder(encoder, store_of(60, size=8))
    one_sentence(str(caught.value))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda labels: torch.zeros_like(labels), "of one class"),
        (
            lambda labels: torch.where(torch.arange(60) == 0, 2, labels % 2),
            "no labelled training image|one image",
        ),
        (lambda labels: torch.where(torch.arange(60) < 40, -1, labels), "No training image"),
        (lambda labels: torch.where(torch.arange(60) == 59, 3, labels), "Class 3 of memory has test images"),
    ],
)
def test_labels_that_allow_no_measure_are_refused_in_one_sentence(change: object, said: str) -> None:
    store = store_of(60, size=8)
    labels = change(store.labels)  # type: ignore[operator]
    store = replace(store, labels=labels, class_names=("0", "1", "2", "3"))
    if "one image" in said:
        store = replace(store, splits=torch.zeros_like(store.splits), split_names=("all",))
    with pytest.raises(DataError, match=said) as caught:
        evaluate_encoder(TinyNet(8), store, protocols=("mlp",), baselines=())
    one_sentence(str(caught.value))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return build("resnet10", 8).eval()


@pytest.mark.slow
def test_evaluate_measures_random_weights_beside_a_head_and_no_pixels(encoder: Encoder) -> None:
    found = evaluate_encoder(
        encoder, store_of(60, size=8), protocols=[MLP(QUICK)], baselines=("random", "pixels"), name="mine"
    )
    found = [result for result in found if result.protocol == "mlp"]
    assert [(r.subject, r.metric) for r in found] == [
        *(("mine", "top1"), ("mine", "balanced")),
        *(("random:resnet10", "top1"), ("random:resnet10", "balanced")),
        ("mine", "top1_difference"),
    ]
    assert found[2].seeds == (0,)
    assert found[4].value == pytest.approx(found[0].value - found[2].value)
    assert found[4].setting["test"] == "exact McNemar"


@pytest.mark.slow
def test_the_supervised_baseline_is_measured_where_features_are(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = SupervisedOptions(steps=4, choice_steps=1, batch_size=16)
    monkeypatch.setattr(supervised, "SupervisedOptions", lambda: short)
    protocols = [Linear(LinearOptions()), MLP(QUICK), Supervised(short)]
    found = evaluate_encoder(
        encoder, store_of(60, size=8), protocols=protocols, baselines=("supervised",), name="mine"
    )
    of = {(r.subject, r.protocol) for r in found if r.protocol != "leakage"}
    assert of == {
        *(("mine", "linear"), ("supervised:resnet10", "linear"), ("mine", "mlp")),
        ("supervised:resnet10", "supervised"),
    }
    (difference,) = [r for r in found if r.metric == "top1_difference"]
    assert difference.setting["against"] == "supervised:resnet10"
    (probed,) = [
        r
        for r in found
        if (r.subject, r.metric) == ("supervised:resnet10", "top1") and r.protocol == "linear"
    ]
    told = {"steps": 4, "batch_size": 16, "augment": "crop", "choice_steps": 1}
    assert {name: probed.setting[name] for name in told} == told
    assert len(probed.setting["settings"]) == 6
    assert probed.setting["lr"] > 0
    assert probed.setting["weight_decay"] > 0
