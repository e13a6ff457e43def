"""Baselines' results in the cache: found again for another encoder, and only for the same measurement."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nolabel.data import cache as cache_files
from nolabel.encoders._whitening import freeze_stem
from nolabel.encoders.base import Encoder, build
from nolabel.evaluation import _kept, baselines, label_efficiency, run, supervised
from nolabel.evaluation._split import divide
from nolabel.evaluation.base import Result
from nolabel.evaluation.knn import KNN, KNNOptions
from nolabel.evaluation.label_efficiency import LabelEfficiency, LabelEfficiencyOptions
from nolabel.evaluation.linear import Linear, LinearOptions
from nolabel.evaluation.supervised import Supervised, SupervisedOptions
from test_features import store_of


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path / "cache"))


def encoder(seed: int) -> Encoder:
    torch.manual_seed(seed)
    return build("resnet10", 16).eval()


def rows(results: list[Result]) -> list[Result]:
    return [
        replace(r, setting={k: v for k, v in r.setting.items() if k != _kept.FROM_CACHE}) for r in results
    ]


def test_the_next_encoder_takes_them_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(60)
    first = run.evaluate_encoder(encoder(0), store, protocols=("knn",), name="a")
    assert not [r for r in first if r.setting.get(_kept.FROM_CACHE)]
    assert len(cache_files.baselines()) == 3
    again = run.evaluate_encoder(encoder(0), store, protocols=("knn",), name="a")
    assert rows(again) == rows(first)
    kept = {r.subject for r in again if r.setting.get(_kept.FROM_CACHE)}
    assert kept == {"random:resnet10", "pixels", "histogram"}

    def never(*words: object, **named: object) -> None:
        raise AssertionError

    monkeypatch.setattr(baselines, "features", never)
    other = run.evaluate_encoder(encoder(1), store, protocols=("knn",), name="b")
    own = {(r.subject, r.metric): r.value for r in first}
    assert all(own[r.subject, r.metric] == r.value for r in other if r.setting.get(_kept.FROM_CACHE))
    (difference,) = (r for r in other if r.setting.get("against") == "pixels")
    (mine,) = (r for r in other if (r.subject, r.metric) == ("b", "top1"))
    assert difference.value == pytest.approx(mine.value - own["pixels", "top1"])


def test_training_from_scratch_is_done_once_for_nets_that_start_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, trained = store_of(60), []
    train = supervised.heads.train_classifier
    monkeypatch.setattr(
        supervised.heads, "train_classifier", lambda *asked: trained.append(1) or train(*asked)
    )
    quick = Supervised(SupervisedOptions(steps=2, choice_steps=1, batch_size=8))

    def measured(net: Encoder, name: str) -> list[Result]:
        trained.clear()
        found = run.evaluate_encoder(net, store, protocols=(quick,), baselines=(), name=name)
        return [row for row in found if row.protocol == "supervised"]

    first = measured(encoder(0), "a")
    assert trained
    assert rows(measured(encoder(1), "b")) == rows(first)
    assert not trained
    other = encoder(1)
    freeze_stem(other)
    measured(other, "c")
    assert trained


def test_what_a_number_depends_on_is_in_its_name() -> None:
    store, net = store_of(60), encoder(0)
    now = _kept.Circumstances(net, store, divide(store, 0), 16, 4096, 0)
    knn, linear = KNN(KNNOptions()), Linear(LinearOptions())
    relabelled = replace(store, labels=store.labels.flip(0))
    train, test = now.division.train, now.division.test
    moved = replace(now.division, train=train[:-1], test=torch.cat([train[-1:], test]))
    others = (
        now.key("pixels", knn),
        now.key("random", linear),
        now.key("random", Linear(LinearOptions(standardise="none"))),
        *(
            replace(now, **change).key("random", knn)
            for change in (
                {"size": 32},
                {"seed": 1},
                {"values": 512},
                {"encoder": build("resnet18", 16)},
                {"store": store_of(80)},
                {"store": relabelled},
                {"division": replace(now.division, test=test[1:])},
                {"division": moved},
            )
        ),
    )
    assert len({now.key("random", knn), *others}) == 1 + len(others)
    same = replace(now, encoder=build("resnet18", 16))
    assert same.key("pixels", knn) == now.key("pixels", knn)


def test_curves_that_an_encoder_s_weights_do_not_change_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    options = LabelEfficiencyOptions(per_class=(1, 4), draws=2, steps=2, choice_steps=1, batch_size=8)

    def measured(seed: int) -> list[Result]:
        found = run.evaluate_encoder(
            encoder(seed),
            store_of(60),
            protocols=[LabelEfficiency(options)],
            baselines=(),
            values=512,
            name="a",
        )
        return [r for r in found if r.subject.startswith(("random:", "supervised:"))]

    first = measured(0)
    random = [r for r in first if r.subject == "random:resnet10" and r.metric == "top1"]
    assert {r.setting["pooling"] for r in random} == {"average, at most 512 values a stage"}
    assert [r.seeds for r in random] == [(0, 1, 2)] * 2

    def never(*words: object, **named: object) -> None:
        raise AssertionError

    monkeypatch.setattr(label_efficiency.heads, "train_classifier", never)
    monkeypatch.setattr(label_efficiency, "random_features", never)
    second = measured(1)
    assert all(r.setting[_kept.FROM_CACHE] for r in second)
    assert rows(second) == first


def test_a_damaged_file_and_a_cache_that_cannot_be_written_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"protocols": ("knn",), "baselines": ("pixels",), "name": "a"}
    first = run.evaluate_encoder(encoder(0), store_of(60), **words)
    (file,) = cache_files.baselines()
    file.write_bytes(file.read_bytes()[:50])
    assert rows(run.evaluate_encoder(encoder(0), store_of(60), **words)) == rows(first)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path / "file"))
    assert rows(run.evaluate_encoder(encoder(0), store_of(60), **words)) == rows(first)


def test_the_oldest_goes_and_clear_removes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kept, "MOST", 2)
    run.evaluate_encoder(encoder(0), store_of(60), protocols=("knn",), name="a")
    assert len(cache_files.baselines()) == 2
    assert cache_files.clear() > 0
    assert cache_files.baselines() == []
