"""What a cache's content is, and the namespace that keeps it apart from everything else."""

from __future__ import annotations

import os
import re
import uuid
from dataclasses import dataclass
from typing import Any

import xxhash

from kappacore.errors import InvalidOptionError, NamespaceMismatchError, NamespaceRequiredError

__all__ = ["PRIVATE", "Identity", "count_ranks", "identify", "split"]

#: Version of how samples are laid out under keys; another one is another namespace.
_FORMAT = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,47}")


class _Private:
    """Asks for a namespace that is this object's and its workers' alone."""

    def __repr__(self) -> str:
        return "kappacore.PRIVATE"

    def __reduce__(self) -> str:
        return "PRIVATE"


PRIVATE = _Private()


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What one cache holds.

    Args:
        namespace: the backend's namespace.
        fingerprint: identifies the content; None if unknown.
        private: nobody else can know the namespace.
        description: the parts of the identity for people, compared part by part on a mismatch.
    """

    namespace: str
    fingerprint: str | None
    private: bool
    description: dict[str, Any]

    @property
    def digest_name(self) -> str:
        """Goes into the digest of every value, so that content of another identity is a miss."""
        return f"{self.namespace}\n{self.fingerprint or ''}"

    def record(self) -> dict[str, Any]:
        """Return what is stored beside the samples to recognise them."""
        return {"fingerprint": self.fingerprint, **self.description}

    def check(self, record: object) -> None:
        """Compare with the record found in the namespace.

        Raises:
            NamespaceMismatchError: if it is another one's; the message says what differs.
        """
        found = record if isinstance(record, dict) else {"record": record}
        if found.get("fingerprint", "") == self.fingerprint:
            return
        own = self.record()
        differences = "".join(
            f"\n  {part}: the cache has {found.get(part)!r}, this dataset has {own.get(part)!r}"
            for part in [*own, *(part for part in found if part not in own)]
            if found.get(part) != own.get(part)
        )
        raise NamespaceMismatchError(
            f"The cache namespace {self.namespace!r} holds samples of another dataset:"
            f"{differences}\n"
            f"Give this dataset another namespace=."
        )


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
    """Find the namespace for one item of a dataset.

    Args:
        dataset: the dataset's type, for people.
        item: name of the item.
        form: ``"raw"``, ``"decoded"``, or ``"sample"`` for whole samples.
        length: number of samples.
        fingerprint: identifies the content; None if unknown.
        namespace: the user's name for the slot, ``PRIVATE``, or None.
        shared: whether the backend is shared with other processes at all.

    Raises:
        InvalidOptionError: if ``namespace`` is no valid name.
        NamespaceRequiredError: if several ranks run and nothing tells them that they mean the same.
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
    """Return what a namespace consists of: fingerprint or name, item, form, length, version."""
    return namespace.rsplit(".", 4)


def count_ranks() -> int:
    """Return how many ranks run, as torchrun or SLURM says; 1 if neither does."""
    counts = [os.environ.get(name, "") for name in ("WORLD_SIZE", "SLURM_NTASKS")]
    return max([int(count) for count in counts if count.isdigit()], default=1)


def _slug(item: str) -> str:
    """Fit an item's name into a namespace; distinct names stay distinct."""
    if re.fullmatch(r"[a-z0-9_]{1,20}", item):
        return item
    readable = re.sub(r"[^a-z0-9_]", "_", item.lower())[:10]
    return f"{readable}-{xxhash.xxh3_64_hexdigest(item.encode())[:8]}"
