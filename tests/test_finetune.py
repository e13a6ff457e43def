"""Fine-tuning and training from scratch: the papers' grids, BatchNorm's momentum, choices, divergence."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nolabel.encoders._io import encoder_digest
from nolabel.encoders._whitening import whiten_stem
from nolabel.encoders.base import build
from nolabel.errors import RunError
from nolabel.evaluation import _head_training as heads
from nolabel.evaluation import finetune, supervised
from nolabel.evaluation._features import extract
from nolabel.evaluation._head_training import Plan, Setting
from nolabel.evaluation._split import divide
from nolabel.evaluation.base import Features
from nolabel.evaluation.finetune import Finetune, FinetuneOptions
from nolabel.evaluation.supervised import Supervised, SupervisedOptions
from nolabel.views import plain
from test_features import store_of
from test_heads_protocols import net, tiny


def resnet(n: int = 60) -> Features:
    torch.manual_seed(0)
    store = store_of(n, size=8)
    return extract(build("resnet10", 8).eval(), store, divide(store, 0), name="mine", size=8)


def test_the_paper_s_grid_of_fine_tuning() -> None:
    grid = finetune.settings("paper")
    assert len(set(grid)) == 7 * 8
    rates = sorted({round(one.lr, 9) for one in grid})
    assert (rates[0], rates[-1]) == (pytest.approx(1e-4), pytest.approx(0.1))
    decays = sorted({round(one.weight_decay * one.lr, 9) for one in grid})
    assert len(decays) == 8
    assert (decays[0], decays[1], decays[-1]) == (0, pytest.approx(1e-6), pytest.approx(1e-3))
    assert len(finetune.settings("small")) == 6
    assert {one.lr for one in finetune.settings("small")} == {one.lr for one in supervised.settings("small")}
    assert FinetuneOptions().steps == 500


def test_the_paper_s_grid_from_scratch() -> None:
    grid = supervised.settings("paper")
    assert len(set(grid)) == 7 * 8
    rates, decays = sorted(one.lr for one in grid), sorted(one.weight_decay * one.lr for one in grid)
    assert (rates[0], rates[-1]) == (pytest.approx(1e-3), pytest.approx(1))
    assert (decays[0], decays[-1]) == (pytest.approx(1e-5), pytest.approx(0.0316228, rel=1e-5))
    small = {(round(one.lr, 9), round(one.weight_decay, 9)) for one in supervised.settings("small")}
    assert small < {(round(one.lr, 9), round(one.weight_decay, 9)) for one in grid}


@pytest.mark.parametrize(("images", "kept"), [(40, 0.9), (100, 0.9), (195, 1 - 10 / 195)])
def test_batchnorm_keeps_what_the_paper_says(images: int, kept: float) -> None:
    """One image a step, so that an epoch has as many steps as there are images."""
    subject = tiny(store_of(300, size=8))
    encoder = copy.deepcopy(net(subject).encoder)
    rows = subject.train[:images]
    heads.train_classifier(subject, encoder, rows, Setting(0.0), Plan(2, 1), 0)
    (momentum,) = {m.momentum for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)}
    assert 1 - momentum == pytest.approx(kept)


def test_fine_tuning_trains_a_copy() -> None:
    subject = tiny(store_of(90, size=8))
    before = encoder_digest(net(subject).encoder)
    rows = Finetune(FinetuneOptions(steps=12, batch_size=32)).run(subject, 5)
    assert encoder_digest(net(subject).encoder) == before
    top1 = rows[0]
    assert (top1.protocol, top1.n, top1.seeds) == ("finetune", 30, (5,))
    assert top1.value > 0.5
    assert len(top1.chosen["settings"]) == 6
    assert top1.chosen["validation"] == max(top1.chosen["settings"].values())
    assert rows == Finetune(FinetuneOptions(steps=12, batch_size=32)).run(subject, 5)


def test_all_of_the_net_is_trained_but_a_whitened_stem() -> None:
    store = store_of(60, size=8)
    encoder = build("resnet10", 8)
    whiten_stem(encoder, plain.whole(store.batch(torch.arange(40)), 8))
    subject = extract(encoder.eval(), store, divide(store, 0), name="white", size=8)
    trained = copy.deepcopy(encoder)
    heads.train_classifier(subject, trained, subject.train, Setting(0.1, 0.1), Plan(3, 16), 0)
    torch.testing.assert_close(trained.stem.weight, encoder.stem.weight, atol=0, rtol=0)
    last = "layer4.0.conv1.weight"
    assert not torch.equal(trained.get_parameter(last), encoder.get_parameter(last))


def test_what_diverges_is_not_chosen_and_alone_is_refused() -> None:
    subject = tiny()
    plan, start = Plan(4, 16), lambda: copy.deepcopy(net(subject).encoder)
    choice = heads.choose(subject, start, [Setting(1e30), Setting(0.05)], plan, 0)
    assert choice.setting == Setting(0.05)
    model = heads.train_classifier(subject, start(), subject.train, Setting(1e30), plan, 0)
    scores = heads.predict(model, subject, subject.test)
    with pytest.raises(RunError, match="training of finetune on tiny diverged") as caught:
        heads.results(subject, "finetune", scores, 0, {}, {})
    assert "\n" not in str(caught.value)


def test_from_scratch_depends_on_the_seed_and_not_on_the_weights() -> None:
    subject = resnet()
    options = SupervisedOptions(steps=20, choice_steps=1, batch_size=32)
    rows = Supervised(options).run(subject, 0)
    assert {row.subject for row in rows} == {"supervised:resnet10"}
    assert rows[0].seeds == (0,)
    assert rows[0].value > 0.6
    other = extract(
        build("resnet10", 8).eval(), net(subject).store, divide(store_of(60, size=8), 0), name="x", size=8
    )
    assert Supervised(options)._measured(other, 0) == rows


def test_a_linear_layer_starts_at_zero_so_the_first_loss_is_that_of_chance() -> None:
    subject = tiny()
    model = heads.Classifier(net(subject).encoder, 3)
    scores = heads.predict(model, subject, subject.test)
    assert not scores.any()


def test_the_mean_over_classes_may_choose_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rate 1 names the large class always, rate 2 the small one at every second image, where all of it is."""
    subject = replace(tiny(store_of(100, size=8)), labels=(torch.arange(100) % 10 == 0).long())
    named = {1.0: torch.zeros(100), 2.0: (torch.arange(100) % 2 == 0).float()}

    def trained(
        subject: Features, encoder: object, rows: object, setting: Setting, *_: object
    ) -> Callable[[Tensor], Tensor]:
        return lambda rows: torch.stack([1 - named[setting.lr][rows], named[setting.lr][rows]], 1)

    monkeypatch.setattr(heads, "train_classifier", trained)
    monkeypatch.setattr(heads, "scores_of", lambda forward, subject, rows: forward(rows))
    tried = subject, lambda: net(subject).encoder, [Setting(1.0), Setting(2.0)], Plan(1, 1), 0
    assert heads.choose(*tried).setting.lr == 1
    by_classes = heads.choose(*tried, "balanced")
    assert by_classes.setting.lr == 2
    assert by_classes.validation == pytest.approx((1 + 5 / 9) / 2, abs=0.2)
