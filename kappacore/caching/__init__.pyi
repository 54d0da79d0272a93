from .codec import Codec as Codec
from .codec import default_codec as default_codec
from .codec import register_type as register_type
from .datasets import CachedDataset as CachedDataset
from .datasets import CacheWrapper as CacheWrapper
from .engine.cache import SampleCache as SampleCache
from .identity.namespace import PRIVATE as PRIVATE
from .stats import CacheStats as CacheStats
