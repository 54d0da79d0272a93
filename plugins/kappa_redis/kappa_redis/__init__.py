"""Cache backend ``redis`` for kappacore: Redis or Valkey, one cache for many machines."""

from kappacore.plugin_api import lazy_names

__version__ = "0.1.0"

# Looking for plugins imports this package; the dataset, and torch with it, only when used.
__getattr__, __dir__ = lazy_names(__name__)
