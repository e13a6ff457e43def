"""The study of SimCLR's projection head, as a command: three runs, and what is read before and behind each head."""

import re
from pathlib import Path

import pytest

from cli_helpers import Say
from nolabel.report._text import SPACE
from nolabel.studies import heads, run

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
