"""Source ``imagefolder`` for kappacore: a folder of images, one subfolder per class.

Importing this package imports nothing heavy: each public name (``__init__.pyi`` lists them) is
loaded on first access.
"""

from kappacore.plugin_api import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
