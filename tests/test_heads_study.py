"""The study of SimCLR's projection head, as a command: three runs, and what is read before and behind each head."""

import re
from pathlib import Path

import pytest
import torch

import nolabel
from cli_helpers import Say
from nolabel.encoders._io import load_encoder
from nolabel.report._text import SPACE
from nolabel.studies import heads, run
from nolabel.training.restore import load_method
from nolabel.views import plain
from toys import toy_store

SHARE = re.compile(r"(\d+\.\d)%")


@pytest.mark.slow
def test_the_study_of_heads_ends_with_both_tables(say: Say, small_images: Path, tmp_path: Path) -> None:
    code, out, err = say("study", "heads", small_images, "--minutes", "0.01", "--out", tmp_path / "study")
    assert code == 0, err
    lines = out.replace(SPACE, "").splitlines()
    for head in run.HEADS:
        before, behind = (
            [SHARE.findall(line) for line in lines if line.split()[:2] == [head, where]]
            for where in ("h", "g(h)")
        )
        assert [len(shares) for shares in (*before, *behind)] == [len(heads.QUESTIONS)] * 2
        assert all(0 <= float(share) <= 100 for share in before[0] + behind[0])
        if head == "none":
            assert before == behind, "g is nothing"
        probed = [line for line in lines if re.match(rf"{head}\s+\d", line)]
        assert [len(SHARE.findall(line)) for line in probed] == [1], "its linear probe"


def test_the_h_that_is_asked_is_that_of_the_encoder_that_the_run_keeps(tmp_path: Path) -> None:
    """Its BatchNorm statistics were set on plain images, those of the checkpoint follow the views of training."""
    store, rows = toy_store(side=32, labels=True), torch.arange(20)
    nolabel.pretrain(
        "simclr", store, encoder="resnet10", steps=2, batch_size=8, precision="32-true", channels_last=False,
        out=tmp_path / "run", progress=False,
    )  # fmt: skip
    h, z, _ = heads._read(heads.trained(tmp_path / "run"), store, rows, "class", 0)
    images, method = plain.whole(store.batch(rows), 32), load_method(tmp_path / "run")
    with torch.no_grad():
        kept, running = load_encoder(tmp_path / "run")(images), method.encoder(images)
        behind = method.head(kept)  # type: ignore[operator]
    torch.testing.assert_close(torch.from_numpy(h), kept)
    torch.testing.assert_close(torch.from_numpy(z), behind)
    assert not torch.allclose(running, kept, rtol=0.01)
