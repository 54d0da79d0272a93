"""Cache backend ``redis`` for kappacore: Redis or Valkey, one cache for many machines."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kappa_redis.dataset import RedisDataset

__all__ = ["RedisDataset"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Looking for plugins imports this package; the dataset, and torch with it, only when used.
    if name == "RedisDataset":
        from kappa_redis.dataset import RedisDataset

        return RedisDataset
    raise AttributeError(f"module 'kappa_redis' has no attribute {name!r}")
