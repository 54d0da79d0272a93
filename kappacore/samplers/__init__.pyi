# The registry of samplers: a line here makes one public.

from .bucket import BucketBatchSampler as BucketBatchSampler
from .class_balanced import ClassBalancedSampler as ClassBalancedSampler
from .distributed import DistributedSampler as DistributedSampler
from .infinite import InfiniteSampler as InfiniteSampler
from .interleaved import Interleaved as Interleaved
from .interleaved import InterleavedSampler as InterleavedSampler
from .mix import MixSampler as MixSampler
from .weighted import WeightedSampler as WeightedSampler
