"""Cache backend ``shared`` for kappacore: memory shared by all processes of a machine."""

from kappacore.plugin_api import lazy_names

# Looking for plugins imports this package; the dataset, and torch with it, only when used.
__getattr__, __dir__ = lazy_names(__name__)
