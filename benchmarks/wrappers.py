"""Wrappers at the size of ImageNet, beside KappaData 0.0.8 in the same run.

Construction: seconds (best of a few) and what stays in memory afterwards, per resulting sample.
Access: "x class" of single samples and of batches through 1, 3 and 6 wrappers. Labels: all of them
through the whole stack. `make bench` installs KappaData; run it on a machine that does nothing
else. `--small` takes a twentieth of the samples.
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import kappacore
from benchmarks._kappadata import kappadata
from benchmarks._report import record
from kappacore import wrappers
from kappacore.wrappers.randomness import random_states_kept, seed_generators

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[[Any, Any], Any]

SAMPLES, CLASSES, BATCH = 1_281_167, 1000, 256
EVEN = list(range(0, CLASSES, 2))
HALVES = [number // 2 for number in range(CLASSES)]
SLOW = 5.0  # seconds; slower things are not done again to see their memory


class Labelled(kappacore.KDDataset):
    """Samples that cost nothing: what is left is what the wrappers take."""

    n_classes = CLASSES

    def __init__(self, labels: np.ndarray[Any, Any]):
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def getitem_x(self, idx: int) -> int:
        return idx

    def getitems_x(self, indices: list[int]) -> list[int]:
        return list(indices)

    def getitem_class(self, idx: int) -> int:
        return self.labels.item(idx)  # type: ignore[no-any-return]

    def getitems_class(self, indices: list[int]) -> list[int]:
        return self.labels[indices].tolist()  # type: ignore[no-any-return]

    def getall_class(self) -> np.ndarray[Any, Any]:
        return self.labels


def kappadatas(labels: np.ndarray[Any, Any]) -> Any:
    """Return the same samples as a dataset of KappaData, which is patched for today's torch."""
    # torch refuses a Subset that defines __getitem__ alone; None has loaders read one by one.
    kappadata().KDSubset.__getitems__ = None

    class Old(kappadata().KDDataset):  # type: ignore[misc]
        n_classes = CLASSES

        def __len__(self) -> int:
            return len(labels)

        def getitem_x(self, idx: int, ctx: Any = None) -> int:  # noqa: ARG002
            return idx

        def getitem_class(self, idx: int, ctx: Any = None) -> int:  # noqa: ARG002
            return labels.item(idx)  # type: ignore[no-any-return]

    return Old()


def long_tailed(samples: int) -> np.ndarray[Any, Any]:
    """Return labels of classes whose sizes grow from a sixth of the mean to twice as much."""
    rng = np.random.default_rng(0)
    weights = np.linspace(1 / 6, 11 / 6, CLASSES)
    return rng.choice(CLASSES, samples, p=weights / weights.sum())


def seconds(call: Callable[[], Any], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        gc.collect()
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return best


def bytes_kept(call: Callable[[], Any]) -> tuple[int, int]:
    """Return what stays in memory after construction, and the number of resulting samples."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    made = call()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return after - before, len(made)


# name, whether it has to sort, how it is made from a module, whether KappaData has it
WRAPPERS: list[tuple[str, bool, Make, bool]] = [
    ("ClassFilterWrapper", False, lambda m, ds: m.ClassFilterWrapper(ds, EVEN), True),
    ("OversamplingWrapper", True, lambda m, ds: m.OversamplingWrapper(ds), True),
    ("OversamplingWrapper exact", True, lambda m, ds: m.OversamplingWrapper(ds, "exact"), False),
    ("PercentFilterWrapper", False, lambda m, ds: m.PercentFilterWrapper(ds, 0.25, 0.75), True),
    ("RepeatWrapper x10", False, lambda m, ds: m.RepeatWrapper(ds, 10), True),
    ("ShuffleWrapper", False, lambda m, ds: m.ShuffleWrapper(ds, seed=0), True),
    ("SubsetWrapper", False, lambda m, ds: m.SubsetWrapper(ds, start=10), False),
    ("SubsetWrapper mask", False, lambda m, ds: m.SubsetWrapper(ds, ds.labels % 2 == 0), False),
    ("FewshotWrapper 3", True, lambda _, ds: wrappers.FewshotWrapper(ds, 3), False),
    (
        "ClasswisePercentWrapper",
        True,
        lambda _, ds: wrappers.ClasswisePercentWrapper(ds, 0.5),
        False,
    ),
    ("train_test_split", False, lambda m, ds: m.train_test_split(ds)[0], False),
    ("… stratified", True, lambda m, ds: m.train_test_split(ds, stratified=True)[0], False),
    ("SortByClassWrapper", True, lambda _, ds: wrappers.SortByClassWrapper(ds), False),
    (
        "IntraClassShuffleWrapper",
        True,
        lambda _, ds: wrappers.IntraClassShuffleWrapper(ds, 0),
        False,
    ),
    (
        "RemapClassesWrapper",
        False,
        lambda _, ds: wrappers.RemapClassesWrapper(ds, HALVES),
        False,
    ),
    ("OneHotWrapper", False, lambda _, ds: wrappers.OneHotWrapper(ds), False),
    (
        "LabelSmoothingWrapper",
        False,
        lambda _, ds: wrappers.LabelSmoothingWrapper(ds),
        False,
    ),
    ("TransformWrapper", False, lambda m, ds: m.TransformWrapper(ds, float, seed=0), False),
    (
        "MultiViewWrapper",
        False,
        lambda _, ds: wrappers.MultiViewWrapper(ds, "x", [float]),
        False,
    ),
]


def construction(ours: Any, theirs: Any, rounds: int) -> None:
    print(f"{'construction':30}{'ms':>9}{'B/sample':>10}{'samples':>12}", end="")
    print(f"{'KappaData':>13}{'ratio':>9}{'B/sample':>10}")
    for name, sorts, make, known in WRAPPERS:
        ours_made = partial(make, kappacore, ours)
        spent = seconds(ours_made, rounds)
        kept, length = bytes_kept(ours_made)
        values = {"kappacore": spent * 1e3}
        line = f"{name + ' *' * sorts:30}{spent * 1e3:9.1f}{kept / length:10.2f}{length:12,}"
        if known and theirs is not None:
            theirs_made = partial(make, kappadata(), theirs)
            before = seconds(theirs_made, 1)
            kept, length = bytes_kept(theirs_made) if before < SLOW else (0, 0)
            values["KappaData 0.0.8"] = before * 1e3
            line += f"{before * 1e3:10.0f} ms{before / spent:8.1f}x"
            line += f"{kept / length:10.2f}" if length else f"{'-':>10}"
        print(line)
        peer = next(reversed(values)) if len(values) > 1 else None
        record(f"{name}, {len(ours):,} samples", values, "ms", peer)
    print("* has to sort")


def nested(module: Any, dataset: Any, depth: int) -> Any:
    """Return a dataset in index wrappers, up to six of them."""
    kinds: list[Callable[[Any], Any]] = [
        lambda ds: module.ShuffleWrapper(ds, seed=0),
        lambda ds: module.PercentFilterWrapper(ds, to_percent=0.9),
        lambda ds: module.ClassFilterWrapper(ds, invalid_classes=[3]),
        lambda ds: module.RepeatWrapper(ds, 2),
        lambda ds: module.ShuffleWrapper(ds, seed=1),
        lambda ds: module.PercentFilterWrapper(ds, from_percent=0.1),
    ]
    for kind in kinds[:depth]:
        dataset = kind(dataset)
    return dataset


def one_by_one(mode: Any, indices: list[int]) -> None:
    for idx in indices:
        mode[idx]


def in_batches(mode: Any, indices: list[int]) -> None:
    for start in range(0, len(indices), BATCH):
        mode.__getitems__(indices[start : start + BATCH])


def access(ours: Any, theirs: Any, rounds: int) -> None:
    rng = np.random.default_rng(0)
    print(f"\n{'access of x class':30}{'one µs':>9}{'batch µs':>10}{'all labels ms':>15}", end="")
    print(f"{'KappaData µs':>14}{'ratio':>8}{'its labels ms':>15}{'ratio':>8}")
    rows: list[tuple[float, float]] = []
    for depth in (1, 3, 6):
        stack = nested(kappacore, ours, depth)
        mode = kappacore.ModeWrapper(stack, "x class")
        indices = rng.integers(len(mode), size=20_000).tolist()
        one = seconds(partial(one_by_one, mode, indices), rounds) / len(indices)
        many = seconds(partial(in_batches, mode, indices), rounds) / len(indices)
        column = seconds(partial(getattr, stack, "getall_class"), rounds)  # finding it reads it
        rows.append((one, many))
        line = f"{f'through {depth}':30}{one * 1e6:9.2f}{many * 1e6:10.2f}{column * 1e3:15.1f}"
        if theirs is not None:
            old = nested(kappadata(), theirs, depth)
            pairs, labels = (kappadata().ModeWrapper(old, mode) for mode in ("x class", "class"))
            before = seconds(partial(one_by_one, pairs, indices), rounds) / len(indices)
            all_before = seconds(partial(list, labels), 1)
            line += f"{before * 1e6:14.2f}{before / many:7.1f}x{all_before * 1e3:15.0f}"
            line += f"{all_before / column:7.0f}x"
            peer = "KappaData 0.0.8"
            values = {"kappacore, one": one, "kappacore, in a batch": many, peer: before}
            case = f"Access to x and class through {depth} wrappers"
            record(case, {name: each * 1e6 for name, each in values.items()}, "µs", peer)
            both = {"kappacore": column * 1e3, peer: all_before * 1e3}
            record(f"All labels through {depth} wrappers, {len(ours):,} samples", both, "ms", peer)
        print(line)
    (one_1, many_1), _, (one_6, many_6) = rows
    print(f"6 beside 1: {one_6 / one_1:.2f}x for one sample, {many_6 / many_1:.2f}x in a batch")
    print("(KappaData reads one by one, also for a batch; the ratio is to our batch)")


def seeding(ours: Any, rounds: int) -> None:
    """Print what a seed of its own costs a sample."""
    indices = list(range(20 * BATCH))
    plain = kappacore.ModeWrapper(kappacore.TransformWrapper(ours, float), "x")
    seeded = kappacore.ModeWrapper(kappacore.TransformWrapper(ours, float, seed=0), "x")

    def extra(read: Callable[[Any, list[int]], None]) -> float:
        spent = [seconds(partial(read, mode, indices), rounds) for mode in (seeded, plain)]
        return (spent[0] - spent[1]) / len(indices) * 1e6

    def alone() -> None:
        with random_states_kept():
            for idx in indices:
                seed_generators(idx)

    print("\nseed= on a random wrapper, torch, Python and numpy seeded:")
    print(f"  {extra(in_batches):.1f} µs a sample in a batch of {BATCH}")
    print(f"  {extra(one_by_one):.1f} µs for a single one")
    print(f"  {seconds(alone, rounds) / len(indices) * 1e6:.1f} µs of these seed the generators")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a twentieth of the samples")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    samples = SAMPLES // 20 if arguments.small else SAMPLES
    labels = long_tailed(samples)
    ours = Labelled(labels)
    theirs = None if kappadata() is None else kappadatas(labels)
    print(f"{samples:,} samples of {CLASSES} classes; best of {arguments.rounds}\n")
    construction(ours, theirs, arguments.rounds)
    access(ours, theirs, arguments.rounds)
    seeding(ours, arguments.rounds)


if __name__ == "__main__":
    main()
