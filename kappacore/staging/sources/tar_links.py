"""Links in a tar file: resolved within it, and copied as what they lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kappacore.staging.sources.base import Entry, parent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_MOST_STEPS = 40  # links on one way, as in Linux
_MOST_COPIES = 100_000  # of what is in folders, by links to folders


class Link(NamedTuple):
    """A symbolic link.

    Attributes:
        to: Where it leads, as it is written.
        entry: Its own entry, without a size.
    """

    to: str
    entry: Entry


class Links:
    """Resolves the symbolic links of an archive.

    Args:
        members: All members by clean path: files, folders and links.
        refuse: Called with the path of a link and what is wrong with it; it raises.
        leaves_out: Tells whether a path is excluded.
    """

    def __init__(
        self,
        members: Mapping[str, Entry | Link],
        refuse: Callable[[str, str], None],
        leaves_out: Callable[[str], bool],
    ):
        self._members = members
        self._refuse = refuse
        self._leaves_out = leaves_out
        self._below: dict[str, dict[str, None]] = {"": {}}  # the names in each folder, in order
        self._copies = 0
        for path in members:
            self._add(path)

    def files(self) -> Iterator[Entry]:
        """Yield the files and folders that links stand for, with the links' paths.

        Raises:
            UnsafeArchiveError: If a link leads out of the archive, to nothing, or in a circle.
        """
        for path, member in self._members.items():
            if self._leaves_out(path):
                continue
            above = parent_of(path)
            while above:
                if isinstance(self._members.get(above), Link):
                    self._refuse(path, f"lies in '{above}', which is a link")
                above = parent_of(above)
            if isinstance(member, Link):
                yield from self._copy(path, path, path, ())

    def _add(self, path: str) -> None:
        while path:
            above, _, name = path.rpartition("/")
            known = above in self._below
            self._below.setdefault(above, {})[name] = None
            if known:
                return
            path = above

    def _copy(self, link: str, to: str, source: str, within: tuple[str, ...]) -> Iterator[Entry]:
        """Yield what is at a path of the archive, as if it were at another one."""
        if self._leaves_out(to):
            return
        source = self._resolved(link, source)
        member = self._members.get(source)
        if isinstance(member, Entry) and not member.is_folder:
            self._count(link)
            yield member._replace(path=to)
            return
        if source not in self._below and member is None:
            self._refuse(link, "is a link to nothing")
        if source in within or source == "" or f"{link}/".startswith(f"{source}/"):
            self._refuse(link, "is a link to a folder that contains it")
        self._count(link)
        yield Entry(to, -1, 0, 0)
        for name in self._below.get(source, ()):
            yield from self._copy(link, f"{to}/{name}", f"{source}/{name}", (*within, source))

    def _count(self, link: str) -> None:
        self._copies += 1
        if self._copies > _MOST_COPIES + 10 * len(self._members):
            self._refuse(link, "multiplies what is in the archive by links to folders")

    def _resolved(self, link: str, path: str) -> str:
        """Return a path without links on the way."""
        done: list[str] = []
        todo = path.split("/")[::-1]
        steps = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not done:
                    self._refuse(link, "is a link that leads out of the archive")
                done.pop()
                continue
            done.append(part)
            member = self._members.get("/".join(done))
            if isinstance(member, Link):
                steps += 1
                if steps > _MOST_STEPS:
                    self._refuse(link, "is a link that leads to itself")
                if member.to.startswith("/"):
                    self._refuse(link, "is a link that leads out of the archive")
                done.pop()
                todo += member.to.split("/")[::-1]
        return "/".join(done)
