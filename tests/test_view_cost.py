"""The benchmark of the views' share of a step takes the step that a run takes."""

import pytest
import torch
from benchmarks import view_cost

from nolabel.methods.rotation import Rotation


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "low"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_the_step_is_timed_in_the_precision_that_is_asked_for(
    precision: str, low: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, seen = Rotation.forward, []

    def noted(self: Rotation, views: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = forward(self, views)
        seen.append((self.training, self.head(self.encoder(views["images"])).dtype))
        return found

    monkeypatch.setattr(Rotation, "forward", noted)
    monkeypatch.setattr(view_cost, "MOST_IMAGES", {32: 2})
    found = view_cost.cost("rotation", 32, 1, precision)
    assert set(seen) == {(True, low)}
    assert found.precision == precision
    assert 0 < found.share < 1
