"""A tenth of the data for debugging, with all classes in it."""

import sys

from photos import make_photos

import kappacore
from kappacore.wrappers import ClasswisePercentWrapper, class_counts


def main(root: str = "photos") -> None:
    """Compare two ways to keep a tenth."""
    ds = kappacore.load_dataset("imagefolder", root=make_photos(root))
    print("all:", class_counts(ds))

    # An image folder is sorted by class: its first tenth is the first class alone.
    first = kappacore.wrap(ds, "percent_filter", to_fraction=0.1)
    print("percent_filter:", class_counts(first))

    # The same part of each class, in the folder's order.
    each = kappacore.wrap(ds, "classwise_percent", to_fraction=0.1)
    print("classwise_percent:", class_counts(each))

    # A random part of each class, drawn once: the seed says which.
    drawn = ClasswisePercentWrapper(kappacore.ShuffleWrapper(ds, seed=0), to_fraction=0.1)
    print("shuffled before:", class_counts(drawn))

    # A cache goes below: debugging then fills a part of what the whole run reads.
    cached = kappacore.wrap(ds, "cache", items="x", backend="shared")
    debug = kappacore.wrap(cached, "classwise_percent", to_fraction=0.1)
    for _image, _label in kappacore.ModeWrapper(debug, "x class"):
        ...
    print(f"{cached.stats().stores} of {len(ds)} images are cached")
    cached.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
