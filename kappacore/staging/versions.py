"""Which files of a target are of the version that the source has now.

Size and time prove that only for a folder's files, and for members of the very archive that they
came from: programs that write zip and tar files mostly give constant times. CRCs prove it without
reading anything. Where neither is at hand, contents are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.sizes import counted
from kappacore.staging.copying.contents import differing
from kappacore.staging.target.manifest import FileRecord, same_time
from kappacore.staging.target.work_folder import has_same_crc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from kappacore.staging.options import Options
    from kappacore.staging.sources.base import Entry, Listing, Source


_ROUNDING = 1000  # nanoseconds: tarfile reads times as floating-point numbers


class Versions:
    """Compares the files of a source with those of a target.

    Args:
        source: The source.
        about: What a manifest will say of it: ``source``, ``kind`` and ``stamp``.
        listing: Its files.
        target: The target.
        options: How.
    """

    def __init__(
        self,
        source: Source,
        about: Mapping[str, Any],
        listing: Listing,
        target: Path,
        options: Options,
    ):
        self._source = source
        self._about = about
        self._listing = listing
        self._target = target
        self._options = options
        self._compared: dict[str, bool] = {}  # whether the contents are the same

    def is_from(self, summary: Mapping[str, Any] | None, part: str = "") -> bool:
        """Return whether the files of a manifest came from this source as it is now.

        Args:
            summary: The last line of the manifest.
            part: The part of the dataset that it is of.
        """
        if summary is None:
            return False
        here = f"{self._about['source']}/{part}" if part else self._about["source"]
        same = (summary["source"], summary["kind"]) == (here, self._about["kind"])
        return same and (summary["kind"] == "folder" or summary["stamp"] == self._about["stamp"])

    def other_contents(self, records: Mapping[str, FileRecord], paths: Iterable[str]) -> set[str]:
        """Return which of these files have another content in the source, after reading both.

        Args:
            records: What is known of the files in the target.
            paths: The files; those that CRCs decide are passed over.
        """
        pairs = {path: (self._listing.files[path], records[path]) for path in paths}
        open_ = {
            path: pair
            for path, pair in pairs.items()
            if path not in self._compared and has_same_crc(*pair) is None
        }
        if open_:
            self._options.report(
                f"comparing the contents of {counted(len(open_), 'file')} of "
                f"'{self._source.path}' with those in '{self._target}'"
            )
            threads = self._options.threads
            other = set(differing(self._source, open_, str(self._target), threads))
            self._compared.update({path: path not in other for path in open_})
        return {path for path in pairs if not self._compared.get(path, True)}


def looks_like(entry: Entry, record: FileRecord, *, exactly: bool) -> bool:
    """Return whether a record may be of this version of a file, by size, time and CRC.

    Not ``exactly``: its time may have been cut to seconds on the way, as in archives, or rounded.
    """
    one, other = entry.mtime_ns, record.mtime_ns
    is_cut = 0 in (one % 10**9, other % 10**9) and same_time(one, other)
    cut = not exactly and (is_cut or abs(one - other) < _ROUNDING)
    same = entry.size == record.size and (one == other or cut)
    return same and has_same_crc(entry, record) is not False
