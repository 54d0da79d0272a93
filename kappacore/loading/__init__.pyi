from .batch import Batch as Batch
from .columns import Jagged as Jagged
from .draw import Draw as Draw
from .loader import Loader as Loader
from .stats import LoaderStats as LoaderStats
