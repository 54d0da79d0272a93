"""What a cache holds, and the namespace that keeps it apart from everything else."""

from __future__ import annotations

import os
import re
import uuid
from dataclasses import dataclass
from typing import Any

import xxhash

from kappacore.errors import InvalidOptionError, NamespaceRequiredError

#: Keys behind those of the samples: the header, and a column of integers.
EXTRA_KEYS = 2

#: Version of how samples are laid out under keys; each version has namespaces of its own.
_FORMAT = 2
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,47}")


class _Private:
    """Asks for a namespace that belongs to one object and its workers alone."""

    def __repr__(self) -> str:
        return "kappacore.PRIVATE"

    def __reduce__(self) -> str:
        return "PRIVATE"


#: As ``namespace=``: the cache belongs to one object and its workers alone.
PRIVATE = _Private()


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What one cache holds.

    Args:
        namespace: The backend's namespace.
        fingerprint: Identifies the content; None if unknown.
        private: True if nobody else can know the namespace.
        description: The parts of the identity for people, compared one by one on a mismatch.
    """

    namespace: str
    fingerprint: str | None
    private: bool
    description: dict[str, Any]

    def digest_name(self, stamp: str) -> str:
        """Return a part of every value's digest: what was stored as anything else is a miss.

        Args:
            stamp: That of the namespace's header.
        """
        return f"{self.namespace}\n{self.fingerprint or ''}\n{stamp}"


def identify(
    *,
    dataset: str,
    item: str,
    form: str,
    length: int,
    fingerprint: str | None,
    namespace: object = None,
    shared: bool = True,
) -> Identity:
    """Return the identity of one item of a dataset.

    Args:
        dataset: The dataset's type, for people.
        item: The name of the item.
        form: ``"raw"``, ``"decoded"``, or ``"sample"`` for whole samples.
        length: The number of samples.
        fingerprint: Identifies the content; None if unknown.
        namespace: The user's name for the content, ``PRIVATE``, or None.
        shared: Whether the backend is shared with other processes.

    Raises:
        InvalidOptionError: If ``namespace`` is not a valid name.
        NamespaceRequiredError: If several ranks run and nothing identifies the content.
    """
    private = namespace is PRIVATE
    if namespace is None and fingerprint is not None:
        slot = xxhash.xxh3_128_hexdigest(fingerprint.encode())
    elif isinstance(namespace, str) and _NAME.fullmatch(namespace):
        slot = namespace
    elif private or namespace is None:
        if not private and shared and (ranks := count_ranks()) > 1:
            raise NamespaceRequiredError(
                f"{ranks} ranks run, and nothing identifies the content of {dataset} (its "
                f"fingerprint of {item!r} is unknown), so each rank would fill a private cache. "
                f"Name it: namespace='my-dataset-train'. Or let the dataset define "
                f"fingerprint(item, raw) (sample_fingerprint() where whole samples are "
                f"cached). If private copies are wanted: "
                f"namespace=kappacore.PRIVATE."
            )
        slot, private = f"private-{uuid.uuid4().hex}", True
    else:
        raise InvalidOptionError(
            f"namespace={namespace!r} is not valid. Use 1 to 48 characters out of a-z, 0-9, '.', "
            f"'_' and '-', beginning with a letter or digit, or kappacore.PRIVATE."
        )
    return Identity(
        namespace=f"{slot}.{_slug(item)}.{form}.{length}.v{_FORMAT}",
        fingerprint=fingerprint,
        private=private,
        description={"dataset": dataset, "item": item, "form": form, "length": length},
    )


def split(namespace: str) -> list[str]:
    """Return the parts of a namespace: fingerprint or name, item, form, length, version."""
    return namespace.rsplit(".", 4)


def samples_in(namespace: str) -> int | None:
    """Return the number of samples that a namespace is for; None if unknown."""
    match = re.fullmatch(r".*\.(\d+)\.v\d+", namespace)
    return int(match[1]) if match else None


def count_ranks() -> int:
    """Return the number of ranks that torchrun or SLURM's srun started; 1 without either."""
    # Not SLURM_NTASKS, which a batch script has as well, though it runs as one process.
    counts = [os.environ.get(name, "") for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")]
    return max([int(count) for count in counts if count.isdigit()], default=1)


def _slug(item: str) -> str:
    """Return an item's name as part of a namespace; different names stay different."""
    if re.fullmatch(r"[a-z0-9_]{1,20}", item):
        return item
    readable = re.sub(r"[^a-z0-9_]", "_", item.lower())[:10]
    return f"{readable}-{xxhash.xxh3_64_hexdigest(item.encode())[:8]}"
