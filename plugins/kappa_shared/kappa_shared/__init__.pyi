# The one list of the package's public names (see kappacore/_lazy.py).

from .dataset import SharedDictDataset as SharedDictDataset
