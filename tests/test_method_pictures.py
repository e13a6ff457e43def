"""The methods' pictures: errors as heat maps and in words, words that do not overlap, the lecture's quiz."""

from typing import TYPE_CHECKING

import pytest
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from context_encoders import context_encoder
from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import build
from nolabel.methods import _counting_picture
from nolabel.methods._inpainting import errors_shown
from nolabel.methods._picture_grid import heat
from nolabel.methods.base import DataInfo
from nolabel.methods.colorization import Colorization, ColorizationOptions
from nolabel.methods.context_prediction import ContextPrediction, ContextPredictionOptions
from nolabel.seeds import generator
from nolabel.views import plain
from nolabel.views.lab import rgb_to_lab
from small import TinyNet, smooth_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def titled(figure: "Figure", start: str) -> "Axes":
    """The first picture of the column whose title begins so."""
    return next(axis for axis in figure.axes if axis.get_title().startswith(start))


def test_heat_goes_from_black_to_yellow_and_bears_no_error_at_all() -> None:
    shown = heat(torch.tensor([[[0.0, 0.1]], [[0.2, 0.05]]]))
    assert shown.shape == (2, 3, 1, 2)
    brightness = shown.sum(1).flatten()
    assert brightness.argsort().tolist() == [0, 3, 1, 2]
    assert brightness[0] < 0.1
    assert brightness[2] > 2
    assert heat(torch.zeros(1, 2, 2)).amax() < 0.1


def test_painted_errors_are_white_where_nothing_was_hidden() -> None:
    truth, hidden = torch.full((1, 3, 4, 4), 0.5), torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    hidden[..., :2] = True
    painted = torch.where(hidden, 0.75, 1.0)
    title, shown, notes = errors_shown(painted, truth, hidden, torch.where(hidden, 0.1, truth))
    assert title == "error\n(bright: 25%)"
    assert shown[..., 2:].eq(1).all()
    assert shown[..., :2].amin(1).lt(1).all()
    assert notes == ["off by 25%,\nthe grey by 40%"]


def test_a_trained_context_encoder_marks_its_errors() -> None:
    figure = context_encoder(32).panel(smooth_images(2), generator(0), trained=True)
    axis = titled(figure, "error")
    assert axis.get_xlabel().startswith("off by ")
    assert not any(other.get_xlabel() for other in figure.axes if not other.get_xlabel().startswith("off by"))
    assert "error" not in str(
        [axis.get_title() for axis in context_encoder(32).panel(smooth_images(2), generator(0)).axes]
    )


@pytest.mark.parametrize("loss", ["classification", "regression", "ab_regression"])
def test_a_trained_colorization_marks_its_errors(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = Colorization(TinyNet(), ColorizationOptions(loss=loss), DataInfo(64, 32))  # type: ignore[arg-type]
    images = smooth_images(2)
    assert "error" not in str([axis.get_title() for axis in method.panel(images, generator(0)).axes])
    chroma = rgb_to_lab(plain.whole(images, 32))[:, 1:].norm(dim=1).mean((1, 2))

    def grey(rgb: Tensor, temperature: float | None = None) -> Tensor:
        return torch.zeros(len(rgb), 2, 4, 4)

    monkeypatch.setattr(method, "colours", grey)
    figure = method.panel(images, generator(0), trained=True)
    told = [axis.get_xlabel() for axis in figure.axes if axis.get_xlabel()]
    assert told == [f"off by {mean:.0f},\na grey one by {mean:.0f}" for mean in chroma.tolist()]
    assert titled(figure, "error").get_xlabel() == told[0]


def test_counting_tells_of_each_image_how_far_its_counts_are_from_adding_up() -> None:
    tiles = torch.full((2, 4, 3), 0.25)
    whole, other = torch.ones(2, 3), torch.zeros(2, 3)
    whole[1, 0], other[1, 2] = 0.0, 2.0
    figure = _counting_picture.draw(
        torch.rand(2, 3, 8, 8), torch.rand(2, 4, 3, 8, 8), (whole, tiles, other), 0.0
    )
    told = [axis.get_xlabel().partition("\n")[0] for axis in figure.axes if "differ" in axis.get_xlabel()]
    assert told == ["differ by 0%", "differ by 100%", "differ by 33%", "differ by 75%"]
    assert _counting_picture.apart(torch.zeros(1, 3), torch.zeros(1, 3)).tolist() == [0.0]


@pytest.mark.parametrize("grey_p", [0.67, 0.0])
def test_counting_tells_of_grey_images_and_its_labels_do_not_overlap(grey_p: float) -> None:
    tiles, counts = torch.rand(2, 4, 3, 8, 8), torch.rand(2, 4, 6)
    figure = _counting_picture.draw(
        torch.rand(2, 3, 8, 8), tiles, (counts.sum(1), counts, torch.rand(2, 6)), grey_p
    )
    assert ("67% of the images lose their colour" in figure.get_supxlabel()) == bool(grey_p)
    figure.canvas.draw()
    labelled = [axis for axis in figure.axes if "that count most" in axis.get_xlabel()]
    boxes = [axis.xaxis.label.get_window_extent() for axis in labelled]
    boxes += [
        tick.get_window_extent() for axis in labelled for tick in axis.get_yticklabels() if tick.get_text()
    ]
    assert len(labelled) == 2
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])


def test_the_middle_layout_asks_the_lecture_s_question_and_answers_below() -> None:
    options = ContextPredictionOptions(layout="centre")
    side = ContextPrediction.encoder_size(options, DataInfo(64, 96))
    method = ContextPrediction(build("resnet10", side), options, DataInfo(64, 96))
    pixels = torch.randint(256, (2, 3, 96, 96), generator=generator(1), dtype=torch.uint8)
    figure = method.panel(ImageBatch.of(pixels), generator(0))
    drawn = method.draw(2, generator(0), 0.0)
    anchor = method.encoder_size(options, DataInfo(64, 96))
    assert (drawn["at"][0, 4] - 40).abs().amax() <= method.shift
    for number, (question, answer) in enumerate(zip(figure.axes[:2], figure.axes[2:], strict=True)):
        boxes = {box.get_xy(): box.get_edgecolor() for box in answer.patches if isinstance(box, Rectangle)}
        assert len(boxes) == 9
        (place,) = (int(word) for word in answer.get_xlabel().split() if word.isdigit())
        told = [text.get_text() for text in answer.texts]
        assert told == list("12345678")
        green = next(xy for xy, colour in boxes.items() if colour == (0.0, 1.0, 0.0, 1.0))
        white = next(xy for xy, colour in boxes.items() if colour == (1.0, 1.0, 1.0, 1.0))
        assert white == (39.5, 39.5)
        assert list(boxes).index(green) == place - 1 + (place > 4)
        pair = torch.tensor(question.images[0].get_array())
        left, top = (int(edge + 0.5) for edge in green)
        whole = pixels[number].permute(1, 2, 0) / 255
        assert torch.equal(pair[:, :anchor], whole[40 : 40 + anchor, 40 : 40 + anchor])
        assert torch.equal(pair[:, -anchor:], whole[top : top + anchor, left : left + anchor])
