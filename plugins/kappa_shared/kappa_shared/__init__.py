"""Cache backend ``shared`` for kappacore: memory shared by all processes of a machine."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kappa_shared.dataset import SharedDictDataset

__all__ = ["SharedDictDataset"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Looking for plugins imports this package; the dataset, and torch with it, only when used.
    if name == "SharedDictDataset":
        from kappa_shared.dataset import SharedDictDataset

        return SharedDictDataset
    raise AttributeError(f"module 'kappa_shared' has no attribute {name!r}")
