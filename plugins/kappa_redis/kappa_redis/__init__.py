"""Cache backend ``redis`` for kappacore: Redis or Valkey, one cache for many machines."""

from kappacore.plugin_api import lazy_names

# Looking for plugins imports this package; the dataset, and torch with it, only when used.
__getattr__, __dir__ = lazy_names(__name__)
