"""Feed the codec damaged and hostile bytes; run by a test for seconds and by `make fuzz` for long.

    python tests/kappacore/caching/codec/fuzz.py [--seconds 60] [--seed N]

Whatever the bytes, decoding must raise `CorruptValueError` or, where no digest is checked or the
digest is right, return a value that can be encoded again. Anything else ends the program with a
traceback and the seed: another exception, a warning, a crash, a hang, memory far beyond the
input's size, an import, an opened file.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import itertools
import random
import resource
import sys
import time
import tracemalloc
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

sys.path.insert(0, str(Path(__file__).parents[3]))

from kappacore.caching.codec import default_codec
from kappacore.caching.codec.arrays import DTYPES
from kappacore.caching.codec.layout import DIGESTED_FROM, HEADER, HEADER_SIZE, seal
from kappacore.caching.codec.reading import LAZY_READERS, READERS
from kappacore.errors import CorruptValueError, MissingDependencyError
from support.codec_values import corpus

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY, NAMESPACE = 7, "fuzz"
HOSTILE: list[Any] = [
    None, True, False, 0, 1, 2, 3, 63, 64, 65, 255, 256, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1,
    2**32, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -1, -2, -64, -(2**31), -(2**63), 0.0,
    -0.0, 1.0, 64.0, 1e300, float("nan"), float("inf"), "", "C", "F", "L", "M", "V", "A", "x", "a",
    "0x10", "-0x1", "\x00", "ÿ", "\U0001f408" * 20, "uint8", "bool", "float64", "bfloat16",
    "complex32", "float8_e5m2", "RGB", "P", "1", "I;16", "RGBA", "PosixPath", "WindowsPath",
    "os.system", "builtins.eval", "O", "|O", "|V0", "<U0", "|S0", "|V999999999", "<U999999999",
    "|S7", "<M8[ns]", "<M8[7D]", "<m8", "<M8[0s]", "<M8[999999999as]", *DTYPES,
]  # fmt: skip
FORBIDDEN = (
    "import", "open", "exec", "compile", "os.", "subprocess.", "socket.", "marshal.",
    "pickle.", "ctypes.", "shutil.", "code.",
)  # fmt: skip

codec = default_codec()
watching = False


def watch(event: str, _args: tuple[Any, ...]) -> None:
    if watching and event.startswith(FORBIDDEN):
        raise SystemExit(f"decoding caused the event {event!r} {_args!r}")


def decode(stored: bytes, **options: Any) -> Any:
    """Decode under watch: nothing is imported, opened or run, and little memory taken."""
    global watching
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    watching = True
    try:
        return codec.decode(stored, KEY, NAMESPACE, **options)
    finally:
        watching = False
        used = tracemalloc.get_traced_memory()[1] - before
        if used > 200_000 + 100 * len(stored):
            raise SystemExit(f"{len(stored)} bytes took {used} bytes of memory: {stored!r}")


def check_unverified(stored: bytes) -> None:
    """Decode what is damaged without looking at its digest."""
    for copy in (True, False):
        try:
            value = decode(stored, verify=False, copy=copy)
        except CorruptValueError:
            continue
        except MissingDependencyError:
            if stored_digest_is_wrong(stored):
                raise
            continue
        if copy:
            codec.encode(value, KEY)


def stored_digest_is_wrong(stored: bytes) -> bool:
    return HEADER.unpack_from(stored)[2] != xxhash.xxh3_64_intdigest(stored[DIGESTED_FROM:])


def check_damaged(stored: bytes) -> None:
    """Decode what differs from what was written."""
    check_unverified(stored)
    try:
        decode(stored)
    except CorruptValueError:
        return
    raise SystemExit(f"damage was not noticed: {stored!r}")


def take_apart(stored: bytes) -> tuple[list[Any], bytes, int]:
    """Return structure, buffers and size of the arrays of a stored value."""
    fields = HEADER.unpack_from(stored)
    end = HEADER_SIZE + fields[5]
    start = -(-end // 64) * 64
    return msgspec.msgpack.decode(stored[HEADER_SIZE:end]), stored[start:], fields[7]


def put_together(operands: list[Any], buffers: bytes, arrays: int, kind: int = 0) -> bytes:
    """Return a stored value with that content and right digests."""
    structure = msgspec.msgpack.encode(operands)
    return b"".join(seal(kind, structure, [buffers], KEY, NAMESPACE, array_bytes=arrays))


def flipped(stored: bytes, position: int, mask: int) -> bytes:
    return stored[:position] + bytes([stored[position] ^ mask]) + stored[position + 1 :]


def every_flip(stored: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield the value with each byte of header, structure and a little more changed, twice."""
    end = min(len(stored), HEADER_SIZE + HEADER.unpack_from(stored)[5] + 70)
    for position in range(end):
        yield flipped(stored, position, 1 << rng.randrange(8))
        yield flipped(stored, position, rng.randrange(1, 256))


def every_cut(stored: bytes) -> Iterator[bytes]:
    """Yield the value cut at each length, and with bytes behind its end."""
    for length in range(len(stored)):
        yield stored[:length]
    yield stored + b"\0"
    yield stored + bytes(64)


def every_operand(stored: bytes) -> Iterator[bytes]:
    """Yield the value with each operand replaced by each hostile one, all digests right."""
    operands, buffers, arrays = take_apart(stored)
    for index, new in itertools.product(range(1, len(operands)), HOSTILE):
        yield put_together([*operands[:index], new, *operands[index + 1 :]], buffers, arrays)


def nested(rng: random.Random) -> bytes:
    """Return containers within containers, some deeper than allowed."""
    depth = rng.choice([1, 10, 62, 63, 64, 65, 66, 1000])
    letters = "".join(rng.choice("tlszd:R") for _ in range(depth)) + rng.choice([".", "T", ""])
    operands = [rng.choice([0, 1, 2, 2**63, 2**32]) for _ in range(rng.choice([depth, 2 * depth]))]
    return put_together([letters, *operands], b"", 0)


def random_change(stored: bytes, rng: random.Random) -> bytes:
    """Return the value with several things changed at once, all digests right."""
    operands, buffers, arrays = take_apart(stored)
    letters = list(operands.pop(0))
    for _ in range(rng.randint(1, 4)):
        change = rng.randrange(8)
        if change == 0 and operands:
            operands[rng.randrange(len(operands))] = rng.choice(HOSTILE)
        elif change == 1 and operands:
            del operands[rng.randrange(len(operands))]
        elif change == 2:
            operands.insert(rng.randint(0, len(operands)), rng.choice(HOSTILE))
        elif change == 3 and letters:
            letters[rng.randrange(len(letters))] = rng.choice(list(READERS))
        elif change == 4:
            letters.insert(rng.randint(0, len(letters)), rng.choice(list(READERS)))
        elif change == 5:
            arrays = rng.choice([0, 1, 64, len(buffers), 2**32, 2**63, 2**64 - 1, arrays])
        elif change == 6 and buffers:
            buffers = buffers[: rng.randrange(len(buffers))]
        elif change == 7 and buffers:
            position = rng.randrange(len(buffers))
            buffers = buffers[:position] + rng.randbytes(1) + buffers[position + 1 :]
    return put_together(
        ["".join(letters), *operands], buffers, arrays, rng.choice([0] * 20 + [1, 2, 3])
    )


def random_bytes(rng: random.Random) -> bytes:
    """Return noise behind a header that is right."""
    size = rng.randrange(200)
    structure = rng.randbytes(rng.randrange(size + 1))
    if rng.random() < 0.5:
        structure = b"\xdd" + rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\x05"]) + structure
    return b"".join(seal(0, structure, [rng.randbytes(size)], KEY, NAMESPACE))


def stored_corpus() -> list[bytes]:
    values = corpus()
    with contextlib.suppress(ImportError):
        from PIL import Image

        values["image"] = Image.new("RGB", (3, 2), (1, 2, 3))
        values["palette"] = Image.new("RGB", (9, 2), (1, 2, 3)).quantize(3)
        values["bilevel"] = Image.new("1", (9, 2))
    return [b"".join(codec.encode(value, KEY, NAMESPACE)) for value in values.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = parser.parse_args()
    rng = random.Random(options.seed)
    print(f"seed {options.seed}", flush=True)
    values = stored_corpus()
    for stored in values:
        decode(stored, copy=False)  # what is imported once is imported now
    for module, library in LAZY_READERS.values():
        if find_spec("PIL" if library == "pillow" else library) is None:
            print(f"{library} is not installed: its objects are left out")
            sys.modules[module] = None  # type: ignore[assignment]  # no attempts from here on
        else:
            import_module(module)
    warnings.simplefilter("error")
    faulthandler.enable()
    limit = address_space() + (1 << 29)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.addaudithook(watch)
    damaged = itertools.chain.from_iterable(
        itertools.chain(every_flip(stored, rng), every_cut(stored)) for stored in values
    )
    hostile = itertools.chain.from_iterable(
        every_operand(stored) for stored in values if HEADER.unpack_from(stored)[4] == 0
    )
    counts = {"damaged": 0, "hostile": 0, "random": 0}
    for name, check, cases in (
        ("damaged", check_damaged, damaged),
        ("hostile", check_unverified, hostile),
    ):
        for stored in cases:
            guard(counts)
            counts[name] += 1
            check(stored)
        print(counts, f"{address_space() >> 20} MiB of addresses", flush=True)
    trees = [stored for stored in values if HEADER.unpack_from(stored)[4] == 0]
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        guard(counts)
        counts["random"] += 1
        choice = rng.random()
        if choice < 0.2:
            stored = rng.choice(values)
            check_damaged(flipped(stored, rng.randrange(len(stored)), rng.randrange(1, 256)))
        elif choice < 0.9:
            check_unverified(random_change(rng.choice(trees), rng))
        elif choice < 0.95:
            check_unverified(nested(rng))
        else:
            check_unverified(random_bytes(rng))
    faulthandler.cancel_dump_traceback_later()
    print(f"{counts} cases, {address_space() >> 20} MiB of addresses, all well")


def address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def guard(counts: dict[str, int]) -> None:
    """Put off the alarm that ends a hang; trace memory during one case in twenty."""
    total = sum(counts.values())
    if total % 1000 == 0:
        faulthandler.dump_traceback_later(30, exit=True)
        tracemalloc.start()
    elif total % 1000 == 50:
        tracemalloc.stop()


if __name__ == "__main__":
    main()
