# The one list of the package's public names (see kappacore/_lazy.py).

from .cached import CachedImageFolder as CachedImageFolder
from .dataset import ImageFolder as ImageFolder
from .errors import ClassesDifferError as ClassesDifferError
from .errors import EmptyClassError as EmptyClassError
from .errors import FixedAttributeError as FixedAttributeError
from .errors import ImageMemoryError as ImageMemoryError
from .errors import IndexFileError as IndexFileError
from .errors import NoClassesError as NoClassesError
from .errors import RootNotFolderError as RootNotFolderError
from .errors import RootNotFoundError as RootNotFoundError
from .errors import UnreadableFolderError as UnreadableFolderError
from .errors import UnreadableImageError as UnreadableImageError
from .images.loaders import numpy_loader as numpy_loader
from .images.loaders import pil_loader as pil_loader
from .images.loaders import (
    raw_image_folder_sample_to_pil_sample as raw_image_folder_sample_to_pil_sample,
)
from .images.loaders import raw_image_loader as raw_image_loader
from .images.loaders import tensor_loader as tensor_loader
