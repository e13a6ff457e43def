"""What a comparison refuses before it begins, what a wrong first call leaves behind, and pictures that are missing."""

from pathlib import Path
from typing import Any

import pytest

import nolabel
from cli_helpers import Say
from nolabel.cli import _pictures, _pretrain
from nolabel.errors import UsageError
from nolabel.runs import Run


def refuse(method: str, **_: Any) -> None:
    raise UsageError(f"{method} needs larger images: give --size 64.")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"minutes": 0}, "--minutes must be above 0, not 0"),
        ({"encoder": "resnet11"}, "did you mean resnet1[08]"),
    ],
)
def test_a_wrong_length_or_encoder_is_told_as_such_and_leaves_nothing(
    small_images: Path, tmp_path: Path, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        nolabel.compare(str(small_images), methods=("rotation",), out=tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_a_comparison_in_which_no_run_began_may_begin_otherwise(small_images: Path, tmp_path: Path) -> None:
    for minutes in (1.0, 2.0):
        with pytest.raises(UsageError, match="No method can train this encoder"):
            nolabel.compare(
                small_images, methods=("rotation",), minutes=minutes, out=tmp_path / "out", pretrain=refuse
            )
        assert not (tmp_path / "out" / "compare.json").exists()


def test_a_method_whose_folder_is_in_use_is_not_left_out(small_images: Path, tmp_path: Path) -> None:
    held: list[Run] = []

    def pretrain(out: Path, **_: Any) -> None:
        held.append(Run.create(out, name="another"))
        Run.create(out, name="mine")

    with pytest.raises(UsageError, match="is in use by another run"):
        nolabel.compare(small_images, methods=("rotation",), out=tmp_path / "out", pretrain=pretrain)
    held[0].close()


@pytest.mark.slow
def test_pictures_that_a_stop_left_undrawn_are_drawn_when_the_comparison_goes_on(
    say: Say, small_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    words = ("compare", small_images, "--methods", "rotation", "--minutes", 0.03, "--protocols", "knn",
             "--baselines", "random", "--out", tmp_path / "out")  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(_pictures, "retrieval", stopped)
        code, _, err = say(*words)
    assert code == 130
    assert err.endswith("nolabel: Interrupted. The same command goes on.\n")
    assert not (tmp_path / "out/rotation/pictures/retrieval.npz").exists()
    code, out, err = say(*words)
    assert code == 0, err
    assert "trained already" in out
    assert (tmp_path / "out/rotation/pictures/retrieval.npz").is_file()
    monkeypatch.setattr(_pretrain, "draw", stopped)
    assert say(*words)[0] == 0, "what was drawn is not drawn again"
