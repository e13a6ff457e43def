"""docs/matrix.md is true: every method takes a step on every encoder at one size, and some at the others."""

import pytest

from nolabel import catalog
from tool_scripts import ROOT, load_tool

METHODS = catalog.names("methods")


matrix = load_tool("matrix")
CORE = [(e, 96) for e in ("resnet10", "resnet18", "nin3", "timm:mobilenetv3_small_050")]
OTHERS = [(e, 32) for e in matrix.ENCODERS if (e, 96) not in CORE]
REST = [(e, size) for e in matrix.ENCODERS for size in matrix.SIZES if (e, size) not in CORE + OTHERS]


def written(method: str, encoder: str, size: int) -> bool:
    """Whether the page has yes for this combination."""
    table = (ROOT / "docs" / "matrix.md").read_text().split(f"## {size} px\n")[1].split("\n## ")[0]
    head, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines() if "|" in line
    ]
    row = next(row for row in rows if row[0] == f"`{encoder}`")
    return row[head.index(method.replace("_", " "))] == "yes"


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "size"), CORE)
@pytest.mark.parametrize("method", METHODS)
def test_the_core_has_no_gap(method: str, encoder: str, size: int) -> None:
    assert matrix.refusal(method, encoder, size) is None
    assert written(method, encoder, size)


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "size"), OTHERS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_tried_on_every_other_encoder(method: str, encoder: str, size: int) -> None:
    assert (matrix.refusal(method, encoder, size) is None) == written(method, encoder, size)


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "size"), REST)
def test_the_page_is_true_of_the_rest(encoder: str, size: int) -> None:
    turn = (matrix.ENCODERS.index(encoder) + matrix.SIZES.index(size)) % len(METHODS)
    for method in (METHODS[turn], METHODS[turn - 3]):
        assert (matrix.refusal(method, encoder, size) is None) == written(method, encoder, size)


def test_the_page_lists_every_method_encoder_and_size() -> None:
    for method in METHODS:
        for encoder in matrix.ENCODERS:
            for size in matrix.SIZES:
                written(method, encoder, size)


def test_the_page_lists_the_papers_own_nets() -> None:
    assert (ROOT / "docs" / "matrix.md").read_text().endswith(matrix.papers())
    assert "| `jigsaw-paper` | jigsaw | `alexnet_jigsaw` |" in matrix.papers()


def test_what_cannot_be_trained_is_refused_with_the_reason() -> None:
    reason = matrix.refusal("simclr", "timm:inception_v3", 32)
    assert reason is not None
    assert "px" in reason
    assert reason.endswith(".")
