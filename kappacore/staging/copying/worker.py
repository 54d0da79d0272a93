"""A process that copies small files, as another one tells it.

It is started as ``python -I -S worker.py`` and imports only what Python has built in, so it is
there within milliseconds. It takes only what is plainly right. At anything else it stops and
reports how far it came: the process that started it copies the rest itself, and says what is wrong.

A message is marshalled, after its length: ``(number, what to do, what with)``. So is the answer:
``(number, answer)``. A worker may have several threads, each of which takes the next message: where
the storage makes them wait, they wait together.

A message to copy lists groups of files of one folder: ``(where from, folder, names, sizes, times,
modes, CRC-32s, places)``, of which the last six have an item for each file:

- from a folder (its path), and CRC-32s and places are None;
- from an archive (a descriptor that the worker inherited), and a place is the offset of the
  content in a tar file; of a member of a zip file, ``(offset of its header, offset of the next one,
  bytes in the file, name in its header, whether it is deflated)``.

Files that are complete are written to the journal. The answer is how many they are, and their lines
there.

A message to check files lists groups ``(folder of the source or None, folder, names, sizes,
times)``, one to check names lists folders of the source with all names in them; the answer is
whether all are so.

A message to list folders has names that are not data, and of each folder its path and the names
that matter, or none where all do. The answer has for each ``(names, sizes, times, modes, [(name,
device, inode, mode) of a folder, …])``, or None where there is anything else than plain files and
folders.

Before it copies, a worker is told the tree to copy to and how many threads to start, and is sent
descriptors: of the journal, of locks and of archives, which messages call by the numbers that they
have there. This is not answered.
"""

from __future__ import annotations

import errno
import marshal
import os
import select
import sys
import zlib
from _thread import allocate_lock, start_new_thread  # threading itself takes milliseconds

try:
    from _json import encode_basestring_ascii as _quoted  # json itself takes milliseconds
except ImportError:
    from json.encoder import encode_basestring_ascii as _quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    Digest = Callable[[bytes], bytes]
    Files = tuple[
        str | int, str, Sequence[str], Sequence[int], Sequence[int], Sequence[int],
        Sequence[int | None] | None, Sequence[Any] | None,
    ]  # fmt: skip
    Line = tuple[str, tuple[int, int, str | None]]  # path, and size, time and sums
    Listed = tuple[list[str], list[int], list[int], list[int], list[tuple[str, int, int, int]]]
    Group = tuple[str | None, str, Sequence[str], Sequence[int], Sequence[int]]

LENGTH = 4  # bytes
MOST = 1 << 20  # bytes of a file
SMALL = 1 << 16  # bytes; holes in smaller files do not matter
FDS_AT_ONCE = 200  # descriptors; Linux sends 253 at most
# Errors of copy_file_range that mean: these two files cannot be copied this way.
NO_WAY = frozenset(
    {
        errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF,
        errno.ETXTBSY,
    }
)  # fmt: skip
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: a pipe that has taken the file's path since must not block.
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_HEADER = 30  # bytes of the header of a member of a zip file, before its name
_KIND, _IS_FILE, _IS_FOLDER = 0o170000, 0o100000, 0o040000  # of modes; stat takes milliseconds
_LOOK_AGAIN = 1000  # milliseconds


class _NotPlainError(Exception):
    """A content that the other process should look at."""


def lines_of(files: Iterable[Line]) -> bytes:
    """Return the lines of files in a journal or manifest: of (path, (size, time, sums)) each."""
    lines = [
        f'[{_quoted(path)},{size},{time},"{sums}"]\n'
        if sums
        else f"[{_quoted(path)},{size},{time},null]\n"
        for path, (size, time, sums) in files
    ]
    return "".join(lines).encode("ascii")


def text_of(crc: int | None, digest: bytes | None) -> str | None:
    """Return sums as manifests store them: "crc32:…", "xxh3:…", or both, with a space."""
    if digest is None:
        return None if crc is None else f"crc32:{crc:08x}"
    return f"xxh3:{digest.hex()}" if crc is None else f"crc32:{crc:08x} xxh3:{digest.hex()}"


class Worker:
    """Copies files.

    Args:
        encoding: That of names.
        digest: Computes the digest of a content; None: there are no digests.
    """

    def __init__(self, encoding: str, digest: Digest | None = None):
        self._encoding = encoding
        self._digest = digest
        self._ranges = hasattr(os, "copy_file_range")

    def take(self, tree: str, journal: int, opened: dict[int, int]) -> None:
        """Take what is needed to copy.

        Args:
            tree: The folder to copy to.
            journal: A descriptor of the journal, which is appended to.
            opened: Descriptors, by their numbers in messages.
        """
        self._tree = self._path(tree)
        self._journal = journal
        self._opened = opened

    def look(self, skipped: list[str], folders: list[tuple[str, list[str]]]) -> list[Listed | None]:
        """List folders, or some names in them, that are nothing but plain files and folders."""
        not_data = {self._path(name) for name in skipped}
        return [self._listed(self._path(folder), names, not_data) for folder, names in folders]

    def copy(self, groups: list[Files]) -> tuple[int, bytes]:
        """Copy files; return how many come before the first that failed, and their lines."""
        done: list[Line] = []
        try:
            for group in groups:
                self._copy_group(group, done)
        except (OSError, ValueError, zlib.error, _NotPlainError):
            pass  # the other process copies the rest, and says what is wrong
        # An error ends this process: then what it has made is removed, and copied again.
        lines = lines_of(done)
        _write(self._journal, lines)
        return len(done), lines

    def check_names(self, folders: list[tuple[str, Sequence[str]]]) -> bool:
        """Return whether folders of a source contain what they contained, and nothing else."""
        try:
            return all(
                sorted(os.listdir(self._path(folder))) == sorted(self._encoded(names))  # noqa: PTH208
                for folder, names in folders
            )
        except OSError:
            return False

    def check_files(self, groups: list[Group]) -> bool:
        """Return whether files of a source are as they were listed, and copies have their sizes.

        A folder in it has the size -1 and the time 0.
        """
        try:
            return all(map(self._is_good, groups))
        except OSError:
            return False

    def _listed(self, folder: bytes, some: list[str], skipped: set[bytes]) -> Listed | None:
        names: list[bytes] = []
        sizes, times, modes = [], [], []
        folders: list[tuple[str, int, int, int]] = []
        try:
            opened = os.open(folder, FOLDER)
            try:
                for name in self._encoded(some) or os.listdir(folder):  # noqa: PTH208
                    if name[:1] == b"." or name in skipped:
                        return None
                    info = os.stat(name, dir_fd=opened)
                    kind, mode = info.st_mode & _KIND, info.st_mode & 0o777
                    size = info.st_size
                    if kind == _IS_FILE and (size <= SMALL or info.st_blocks * 512 >= size):
                        names.append(name)
                        sizes.append(size)
                        times.append(info.st_mtime_ns)
                        modes.append(mode)
                    elif kind == _IS_FOLDER:
                        folders.append((self._text(name), info.st_dev, info.st_ino, mode))
                    else:
                        return None
            finally:
                os.close(opened)
        except OSError:
            return None
        texts = self._text(b"\0".join(names)).split("\0") if names else []
        return texts, sizes, times, modes, folders

    def _is_good(self, group: Group) -> bool:
        source, folder, names, sizes, times = group
        encoded = self._encoded(names)
        if source is not None:
            found = _versions(self._path(source), encoded, follow=True)
            if found != list(zip(sizes, times, strict=True)):
                return False
        if sizes[0] < 0:
            return True
        copies = _versions(self._in_tree(folder), encoded, follow=False)
        return [size for size, _ in copies] == list(sizes)

    def _copy_group(self, group: Files, done: list[Line]) -> None:
        source, inside, names, *columns = group
        folder = os.open(self._path(source), FOLDER) if isinstance(source, str) else -1
        archive = self._opened[source] if isinstance(source, int) else -1
        above = f"{inside}/" if inside else ""
        try:
            into = os.open(self._in_tree(inside), FOLDER | os.O_NOFOLLOW)
            try:
                none = (None,) * len(names)
                given = (none if column is None else column for column in columns)
                for text, name, size, time, mode, crc, place in zip(
                    names, self._encoded(names), *given, strict=True
                ):
                    digest = self._copy_file(
                        folder, archive, into, name, size, time, mode, crc, place
                    )
                    done.append((above + text, (size, time, text_of(crc, digest))))
            finally:
                os.close(into)
        finally:
            if folder >= 0:
                os.close(folder)

    def _path(self, text: str) -> bytes:
        return text.encode(self._encoding, "surrogateescape")

    def _text(self, path: bytes) -> str:
        return path.decode(self._encoding, "surrogateescape")

    def _in_tree(self, folder: str) -> bytes:
        return self._tree + b"/" + self._path(folder)

    def _encoded(self, names: Sequence[str]) -> list[bytes]:
        return self._path("\0".join(names)).split(b"\0") if names else []

    def _copy_file(
        self, folder: int, archive: int, into: int,
        name: bytes, size: int, time: int, mode: int, crc: int | None, place: Any,
    ) -> bytes | None:  # fmt: skip
        opened = os.open(name, _FILE, dir_fd=folder) if folder >= 0 else -1
        digest = None
        try:
            new = os.open(name, NEW_FILE, mode | 0o600, dir_fd=into)
            try:
                if opened >= 0 and self._digest is None:
                    self._copy_content(opened, new, size)
                else:
                    data = _read(opened, 0, size) if opened >= 0 else _unpack(archive, size, place)
                    if crc is not None and zlib.crc32(data) != crc:
                        raise _NotPlainError
                    digest = self._digest(data) if self._digest else None
                    _write(new, data)
                os.utime(new, ns=(time, time))
            except BaseException:
                os.unlink(name, dir_fd=into)
                raise
            finally:
                os.close(new)
        finally:
            if opened >= 0:
                os.close(opened)
        return digest

    def _copy_content(self, source: int, target: int, size: int) -> None:
        left = size
        while self._ranges and left:
            try:
                count = os.copy_file_range(source, target, left)
            except OSError as error:
                if error.errno not in NO_WAY:
                    raise
                self._ranges = False
                break
            if not count:  # the end, or a file system that wrongly reports it
                break
            left -= count
        if left:
            _write(target, _read(source, size - left, left))


def _read(fd: int, offset: int, size: int) -> bytes:
    data = os.pread(fd, size, offset)
    while len(data) < size:
        more = os.pread(fd, size - len(data), offset + len(data))
        if not more:
            raise _NotPlainError
        data += more
    return data


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _unpack(archive: int, size: int, place: Any) -> bytes:
    """Return the content of a member; the checks are those of ``ZipSource.open``."""
    if isinstance(place, int):
        return _read(archive, place, size)
    start, stop, packed, name, is_deflated = place
    # The extra field is rarely longer than this; one read mostly brings header and content.
    ahead = min(stop - start, _HEADER + len(name) + 64 + packed)
    data = os.pread(archive, ahead, start)
    named = _HEADER + len(name)
    if data[:4] != b"PK\3\4" or data[_HEADER:named] != name:
        raise _NotPlainError
    if int.from_bytes(data[26:28], "little") != len(name):
        raise _NotPlainError
    begin = named + int.from_bytes(data[28:30], "little")
    end = begin + packed
    if start + end > stop:
        raise _NotPlainError
    content = data[begin:end] if end <= len(data) else _read(archive, start + begin, packed)
    if is_deflated:
        unpacker = zlib.decompressobj(-15)
        # One byte more than declared is requested, to see that there is none.
        content = unpacker.decompress(content, size + 1)
        if not unpacker.eof:
            raise _NotPlainError
    if len(content) != size:
        raise _NotPlainError
    return content


def _versions(folder: bytes, names: list[bytes], *, follow: bool) -> list[tuple[int, int]]:
    """Return size and time of files; of a folder -1 and 0, as it is listed, of others -2 and 0."""
    found = []
    opened = os.open(folder, FOLDER if follow else FOLDER | os.O_NOFOLLOW)
    try:
        for name in names:
            info = os.stat(name, dir_fd=opened, follow_symlinks=follow)
            kind = info.st_mode & _KIND
            if kind == _IS_FILE:
                found.append((info.st_size, info.st_mtime_ns))
            else:
                found.append((-1 if kind == _IS_FOLDER else -2, 0))
    finally:
        os.close(opened)
    return found


def send(fd: int, message: bytes) -> None:
    """Write a message, after its length."""
    _write(fd, len(message).to_bytes(LENGTH, "little") + message)


class _Service:
    """Does what the other process asks for, until it ends.

    Args:
        worker: Does it.
        parent: The pid of the other process.
    """

    def __init__(self, worker: Worker, parent: int):
        self._worker = worker
        self._parent = parent
        self._reading = allocate_lock()
        self._writing = allocate_lock()

    def run(self) -> None:
        while True:
            with self._reading:
                message = self._message()
                if message is None:
                    return
                number, what, *given = message
                if what == "take":
                    self._take(*given)
                    continue
            answer = marshal.dumps((number, getattr(self._worker, what)(*given)))
            with self._writing:
                send(1, answer)

    def _message(self) -> Any:
        length = _receive(LENGTH, self._parent)
        data = length and _receive(int.from_bytes(length, "little"), self._parent)
        return marshal.loads(data) if data else None  # noqa: S302 - from this program

    def _take(self, tree: str, journal: int, numbers: list[int], threads: int) -> None:
        received = _receive_fds(len(numbers), self._parent)
        opened = dict(zip(numbers, received, strict=True))
        self._worker.take(tree, opened[journal], opened)
        for _ in range(1, threads):
            start_new_thread(self._run_in_thread, ())

    def _run_in_thread(self) -> None:
        try:
            self.run()
        finally:
            os._exit(1)  # of what it had in hand, no answer would come


def _receive_fds(count: int, parent: int) -> list[int]:
    import _socket  # socket itself takes milliseconds

    given = _socket.socket(fileno=os.dup(0))
    found: list[int] = []
    while len(found) < count and _wait(parent):
        _, parts, _, _ = given.recvmsg(1, _socket.CMSG_SPACE(4 * FDS_AT_ONCE))
        more = memoryview(b"".join(part for _, _, part in parts)).cast("i").tolist()
        found += more
        if len(more) < FDS_AT_ONCE:
            break  # the last, or there was no room for others
    given.close()
    return found  # too few of them end this process


def _receive(size: int, parent: int) -> bytes:
    """Return the next bytes of the input; none once the other process has ended."""
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data)) if _wait(parent) else b""
        if not more:
            return b""
        data += more
    return data


def _wait(parent: int) -> bool:
    """Wait for input; return whether the other process has not ended before."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    # A process that was forked meanwhile may keep the socket open for longer than that one lives.
    while not poll.poll(_LOOK_AGAIN):
        if os.getppid() != parent:
            return False
    return True


if __name__ == "__main__":
    import _signal  # type: ignore[import-not-found]  # signal itself takes milliseconds
    import gc

    gc.disable()  # there is none: nothing here refers to itself
    # glibc gives free memory back to the kernel, which clears it anew for each file, unless it has
    # seen something large be freed.
    bytes(4 * MOST)
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)  # the other process decides
    given_parent, given_encoding, digests_in = sys.argv[1:]
    compute = None
    if digests_in:
        sys.path.append(digests_in)
        import xxhash

        compute = xxhash.xxh3_128_digest
    _Service(Worker(given_encoding, compute), int(given_parent)).run()
