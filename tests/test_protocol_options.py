"""Options of protocols on the command line, their ranges, and what a comparison does when they change."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cli_helpers import Say, one_line
from nolabel.cli._protocol_options import with_options
from nolabel.errors import UsageError
from nolabel.evaluation import compare
from nolabel.evaluation.base import Protocol
from nolabel.evaluation.clustering import ClusteringOptions
from nolabel.evaluation.conv import ConvOptions
from nolabel.evaluation.diagnostics import Diagnostics, DiagnosticsOptions
from nolabel.evaluation.discovery import DiscoveryOptions
from nolabel.evaluation.few_labels import FewLabelsOptions
from nolabel.evaluation.finetune import FinetuneOptions
from nolabel.evaluation.knn import KNN, KNNOptions
from nolabel.evaluation.label_efficiency import LabelEfficiencyOptions
from nolabel.evaluation.linear import Linear, LinearOptions
from nolabel.evaluation.mlp import MLPOptions
from nolabel.evaluation.retrieval import RetrievalOptions
from nolabel.evaluation.run import Keep, evaluate_encoder
from nolabel.evaluation.supervised import SupervisedOptions
from nolabel.evaluation.svm import SVMOptions
from nolabel.evaluation.targets import Wanted
from small import TinyNet
from test_features import store_of


def options_of(*words: str) -> Any:
    """The options that words such as `knn.k=1` make of their one protocol."""
    (made,) = with_options([words[0].split(".")[0]], words)
    assert isinstance(made, Protocol)
    return made.options


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["few_labels.per_class=5,20", "few_labels.shares="], FewLabelsOptions(shares=(), per_class=(5, 20))),
        (["few_labels.per_class=none"], FewLabelsOptions()),
        (["few-labels.shares=0.05"], FewLabelsOptions(shares=(0.05,))),
        (
            ["linear.l2_grid=full", "linear.precision=float64"],
            LinearOptions(l2_grid="full", precision="float64"),
        ),
        (["finetune.grid=paper", "finetune.batch-size=256"], FinetuneOptions(grid="paper", batch_size=256)),
        (
            ["retrieval.gallery=test", "retrieval.stage=stage3"],
            RetrievalOptions(gallery="test", stage="stage3"),
        ),
        (["mlp.lr=0.1,0.01", "mlp.steps=7"], MLPOptions(steps=7, lr=(0.1, 0.01))),
        (["svm.folds=true"], SVMOptions(folds=True)),
        (["svm.per_class=400", "svm.enlarge=2"], SVMOptions(per_class=400, enlarge=2)),
        (["knn.temperature= 0.1, 1 "], KNNOptions(temperature=(0.1, 1.0))),
    ],
)
def test_a_word_becomes_a_value_of_its_option_s_type(words: Sequence[str], expected: Any) -> None:
    assert options_of(*words) == expected


def test_the_order_stays_and_other_protocols_keep_their_names() -> None:
    first, second, third = with_options(["linear", "knn", "svm"], ["knn.k=3"])
    assert (first, third) == ("linear", "svm")
    assert isinstance(second, KNN)


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("knn", ["not of the form PROTOCOL.OPTION=VALUE"]),
        ("knn.k", ["not of the form"]),
        ("k=1", ["not of the form"]),
        ("knnn.k=1", ["did you mean knn?"]),
        ("linear.l2_gird=full", ["no option of linear named 'l2_gird': did you mean l2_grid? linear has:"]),
        ("linear.x=1", ["linear has: standardise, l2_grid, precision, images, choose_by"]),
        ("linear.l2_grid=ful", ["linear: There is no value of l2_grid named 'ful': did you mean full?"]),
        ("svm.folds=true", ["protocol svm, which is not measured: add svm to --protocols"]),
        ("knn.k=one", ["knn.k is 'one': give a value of type int, separated by commas"]),
        ("linear.images=1e4", ["linear.images is '1e4': give a value of type int"]),
        ("knn.k=0", ["knn: The option k is (0,): give one or more of: a number of 1 or more"]),
        ("knn.k=", ["The option k is ()"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(
    say: Say, encoder: Path, small_images: Path, word: str, parts: list[str]
) -> None:
    for words in (("evaluate", encoder, small_images), ("compare", small_images, "--minutes", 1)):
        code, _, err = say(*words, "--protocols", "linear,knn", "--set", word)
        assert code == 2
        one_line(err, *parts)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (FewLabelsOptions, {"per_class": (0,)}),
        (FewLabelsOptions, {"shares": (1.5,)}),
        (FewLabelsOptions, {"shares": ()}),
        (FewLabelsOptions, {"draws": 0}),
        (FewLabelsOptions, {"finetune_draws": -1}),
        (KNNOptions, {"k": (-1,)}),
        (KNNOptions, {"temperature": (0.0,)}),
        (RetrievalOptions, {"k": (0,)}),
        (RetrievalOptions, {"queries": 0}),
        (ClusteringOptions, {"restarts": 0}),
        (DiagnosticsOptions, {"views": 1}),
        (DiscoveryOptions, {"matches": 4}),
        (DiscoveryOptions, {"images": 24}),
        (LabelEfficiencyOptions, {"per_class": (1, 0)}),
        (LabelEfficiencyOptions, {"weight_decay": -1.0}),
        (LinearOptions, {"images": 0}),
        (MLPOptions, {"lr": (float("nan"),)}),
        (ConvOptions, {"unfrozen_steps": -1}),
        (FinetuneOptions, {"steps": 0}),
        (SupervisedOptions, {"batch_size": 0}),
        (SVMOptions, {"enlarge": 0}),
        (SVMOptions, {"per_class": 0}),
    ],
)
def test_a_number_out_of_range_is_refused_where_the_options_are_made(
    kind: Any, wrong: dict[str, Any]
) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"The option {name} is .*: give "):
        kind(**wrong)


def test_folds_and_draws_are_one_or_the_other() -> None:
    with pytest.raises(UsageError, match="folds or drawn per class"):
        SVMOptions(folds=True, per_class=5)


def test_what_transfer_is_told_is_checked_too() -> None:
    with pytest.raises(UsageError, match="batch_size is 0"):
        Wanted(16, 0, batch_size=0)


def test_an_unknown_stage_is_told_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Linear, "run", lambda *_: pytest.fail("something was measured"))
    with pytest.raises(UsageError, match="no stage named 'stage9': did you mean stage2"):
        evaluate_encoder(
            TinyNet(8), store_of(60, size=8), protocols=["linear", KNN(KNNOptions(stage="stage9"))]
        )
    with pytest.raises(UsageError, match="At most 0 values"):
        evaluate_encoder(TinyNet(8), store_of(60, size=8), values=0)


def test_a_baseline_of_one_stage_stands_beside_any() -> None:
    found = evaluate_encoder(
        TinyNet(8), store_of(60, size=8), protocols=[KNN(KNNOptions(k=(1,), stage="stage1"))], baselines=["pixels"]
    )  # fmt: skip
    rows = {row.subject: row for row in found if row.metric == "top1"}
    assert rows["tiny"].chosen["stage"] == "stage1"
    assert rows["tiny"].setting["options"] == {"k": (1,), "stage": "stage1"}
    assert rows["pixels"].chosen["stage"] == "pixels"


def test_without_labels_the_asked_diagnostics_are_kept() -> None:
    store = replace(store_of(60, size=8), labels=torch.full((60,), -1))
    asked = ["linear", Diagnostics(DiagnosticsOptions(images=20))]
    found = evaluate_encoder(TinyNet(8), store, protocols=asked, baselines=())
    assert {row.protocol for row in found} == {"diagnostics"}
    assert found[0].n == 20


def test_the_command_line_hands_options_and_values_on(
    say: Say, encoder: Path, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("nolabel.cli.evaluate.measure", lambda *_, **given: asked.update(given))
    words = ("--protocols", "linear,knn", "--set", "knn.k=1,3", "--set", "knn.stage=stage3", "--values", 9000)
    code, _, err = say("evaluate", encoder, small_images, *words)
    assert code == 0, err
    assert asked["values"] == 9000
    assert asked["protocols"][0] == "linear"
    assert asked["protocols"][1].options == KNNOptions(k=(1, 3), stage="stage3")
    code, out, _ = say("evaluate", "--help")
    assert "--set" in out
    assert "PROTOCOL.OPTION=VALUE" in out


def test_other_options_are_measured_anew_and_the_same_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[tuple[str, dict[str, object]]]] = []

    def evaluated(*_: object, protocols: list[Protocol], keep: Keep, **__: object) -> None:
        calls.append([(one.protocol, one.changed()) for one in protocols])
        for one in protocols:
            keep(one, [])

    monkeypatch.setattr(compare, "evaluate_encoder", evaluated)
    one, store = KNN(KNNOptions(k=(1,))), store_of(60, size=8)
    for protocols, values in (
        (["linear", "knn"], 4096), (["linear", one], 4096), (["linear", one], 4096), (["linear", "knn"], 4096),
        (["linear"], 9000),
    ):  # fmt: skip
        compare.measure(tmp_path, store, protocols=protocols, baselines=(), values=values, seed=0)
    linear, knn = ("linear", {}), ("knn", {})
    assert calls == [[linear, knn], [("knn", {"k": (1,)})], [knn], [linear]]
