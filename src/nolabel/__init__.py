"""nolabel: a folder of images and no labels in; an encoder, and proof of what it is worth, out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nolabel.api import evaluate as evaluate
    from nolabel.api import load_encoder as load_encoder
    from nolabel.api import pretrain as pretrain
    from nolabel.comparison import compare as compare
    from nolabel.data.store import ImageStore as ImageStore

__all__ = ["ImageStore", "compare", "evaluate", "load_encoder", "pretrain"]


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: `import nolabel` loads no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'nolabel' has no attribute {name!r}")
    if name == "ImageStore":
        from nolabel.data.store import ImageStore

        return ImageStore
    if name == "compare":
        from nolabel.comparison import compare

        return compare
    from nolabel import api

    return getattr(api, name)
