# The one list of the package's public names (see kappacore/_lazy.py).

from .dataset import RedisDataset as RedisDataset
