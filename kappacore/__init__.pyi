# The public names at the top: the one list of them (see _lazy.py).

from . import caching as caching
from . import datasets as datasets
from . import errors as errors
from . import plugin_api as plugin_api
from . import plugins as plugins
from . import samplers as samplers
from . import staging as staging
from . import wrappers as wrappers
from .caching.backends.base import CacheBackend as CacheBackend
from .caching.codec import register_type as register_type
from .caching.datasets import CachedDataset as CachedDataset
from .caching.datasets import CacheWrapper as CacheWrapper
from .caching.explain import explain as explain
from .caching.identity.namespace import PRIVATE as PRIVATE
from .datasets.adapt import as_kd as as_kd
from .datasets.base import KDConcatDataset as KDConcatDataset
from .datasets.base import KDDataset as KDDataset
from .datasets.base import KDWrapper as KDWrapper
from .datasets.mode import ModeWrapper as ModeWrapper
from .datasets.stack import find_wrapper as find_wrapper
from .datasets.stack import iter_wrappers as iter_wrappers
from .datasets.subset import KDSubset as KDSubset
from .errors import KappaError as KappaError
from .errors import UseModeWrapperError as UseModeWrapperError
from .plugins.api import backend as backend
from .plugins.api import register_cache_backend as register_cache_backend
from .plugins.api import register_source as register_source
from .plugins.api import register_wrapper as register_wrapper
from .plugins.composing import build as build
from .plugins.composing import load_dataset as load_dataset
from .plugins.composing import wrap as wrap
from .staging.api import stage as stage
from .staging.kappadata import copy_folder_from_global_to_local as copy_folder_from_global_to_local
from .wrappers.class_filter import ClassFilterWrapper as ClassFilterWrapper
from .wrappers.one_hot import OneHotWrapper as OneHotWrapper
from .wrappers.oversampling import OversamplingWrapper as OversamplingWrapper
from .wrappers.percent_filter import PercentFilterWrapper as PercentFilterWrapper
from .wrappers.repeat import RepeatWrapper as RepeatWrapper
from .wrappers.shuffle import ShuffleWrapper as ShuffleWrapper
from .wrappers.splitting import k_fold as k_fold
from .wrappers.splitting import split as split
from .wrappers.splitting import train_test_split as train_test_split
from .wrappers.subset import SubsetWrapper as SubsetWrapper
from .wrappers.transform import TransformWrapper as TransformWrapper

__version__: str
