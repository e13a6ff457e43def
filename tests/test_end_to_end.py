"""The main job from the shell: CIFAR-10 in; an encoder, its evaluation and a report out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.end_to_end


def nolabel(*words: object) -> str:
    """Standard output of one command that must succeed."""
    command = [sys.executable, "-m", "nolabel", *map(str, words)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    print(ran.stdout, ran.stderr, sep="")
    assert ran.returncode == 0
    assert "Traceback" not in ran.stderr
    return ran.stdout


def test_pretrain_evaluate_and_report_on_cifar10(shared_data: Path, tmp_path: Path) -> None:
    data, run = shared_data / "cifar10.zip", tmp_path / "run"
    said = nolabel("pretrain", "simclr", data, "--encoder", "resnet10", "--steps", 60, "--out", run)
    assert str(run / "report.html") in said
    said = nolabel("evaluate", run, data, "--protocols", "knn", "--baselines", "random,pixels,histogram")
    assert "simclr" in said
    top1 = {
        row["subject"]: row["value"]
        for row in map(json.loads, (run / "evaluation.jsonl").read_text().splitlines())
        if row["metric"] == "top1"
    }
    assert set(top1) == {"simclr", "random:resnet10+whitened", "pixels", "histogram"}
    assert all(0.1 < value < 0.9 for value in top1.values()), top1
    page = (run / "report.html").read_text()
    for part in ("SimCLR", "resnet10", "60,000 images", "kNN"):
        assert part in page
    info = json.loads((run / "run.json").read_text())
    assert info["status"] == "finished"
    assert info["data"]["images"] == 60_000
