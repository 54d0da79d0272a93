"""``kappacore.Loader``: what users call."""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from torch.utils.data import BatchSampler

from kappacore.datasets.epochs import tell_epoch
from kappacore.datasets.mode import ModeWrapper
from kappacore.errors import (
    InvalidOptionError,
    LoaderClosedError,
    LoaderStateError,
    UnknownItemError,
)
from kappacore.loading.assembly import Assembly
from kappacore.loading.buffers import Recycler, Ring
from kappacore.loading.chosen import BatchesOfEpoch, given_batches
from kappacore.loading.convert import convert
from kappacore.loading.decoding import check_decoding
from kappacore.loading.devices.open import open_device
from kappacore.loading.iteration import Iteration
from kappacore.loading.options import parse_items
from kappacore.loading.order import (
    Rows,
    Share,
    count_batches,
    draw_order,
    global_batches,
)
from kappacore.loading.place import Place
from kappacore.loading.plan import Planner
from kappacore.loading.reader import Reader, read_whole
from kappacore.loading.reading import Reading
from kappacore.loading.stats import LoaderStats
from kappacore.samplers.ranks import check_rank, find_rank
from kappacore.wrappers.options import as_integer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import torch
    from typing_extensions import Self

    from kappacore.datasets.base import KDDataset
    from kappacore.loading.assembly import Made
    from kappacore.loading.draw import Draw
    from kappacore.loading.plan import Plan
    from kappacore.loading.reader import Columns

__all__ = ["Loader"]

_MOST_STATS = 1000  # iterations
_VERSION = 1  # of states
#: Seconds that two threads may need until the loop has a batch that the other one made.
_HANDED_OVER_IN = 0.3e-3


class Loader:
    """Iterates over the batches of a dataset, read ahead and on the device that trains.

    A batch is what ``default_collate`` makes of the samples of a :class:`ModeWrapper`: one item
    bare, several as a tuple that also answers to their names, ``batch["x"]``; images of PIL are
    uint8 of shape ``(N, H, W, C)``. There are no worker processes unless ``workers`` asks for them.

    The samples of an epoch are shared out to the ranks: the global batch, that of all ranks
    together, is drawn once, and each rank takes its rows. So order and draws depend on the seed,
    the epoch and the position in it alone, and not on the number of ranks. Each iteration that
    gave a batch is one epoch, unless :meth:`set_epoch` says otherwise.

    Args:
        dataset: The dataset to read; ``as_kd`` makes one of any map-style dataset.
        mode: The items, as for :class:`ModeWrapper`.
        batch_size: Rows of a batch, of each rank.
        shuffle: Whether to draw a new order for each epoch.
        sampler: Gives this rank's indices in their order. It is used as it is: what belongs to
            which rank is its affair.
        batch_sampler: Gives this rank's indices batch by batch, likewise.
        drop_last: Leave out a last global batch that is not full.
        pad: Fill up a last global batch from the beginning of the epoch until all ranks have the
            same number of rows, as training needs it. False: each sample exactly once over all
            ranks, as for an evaluation; ranks may then differ by a row, or by a batch.
        seed: Of the order and of the draws.
        rank: This rank, with ``world_size``; by default that of torch.distributed, of torchrun or
            of SLURM, looked up when an iteration begins.
        world_size: The number of ranks.
        device: Where batches go: ``"cpu"``, or what a plugin brings, such as ``"cuda:0"``.
        items: What is done with an item on its way, such as ``{"x": {"dtype": torch.bfloat16,
            "mean": …, "std": …, "layout": "channels_last"}}``; see
            :class:`kappacore.loading.options.ItemOptions`.
        transform: Called with the whole batch on the device and a :class:`Draw`; returns the batch.
        return_ctx: Whether to give ``(batch, ctx)``: the ctx of the samples, collated, and what
            ``transform`` left in ``draw.params``.
        collate_fn: Makes a batch of a list of samples, as in torch; nothing is gathered then.
        workers: The number of processes that load what cannot be gathered from a cache: samples
            that it does not hold yet, decoding, transforms. They end when they are not needed.
        prefetch: The number of batches made ahead, in one thread; 0: each when it is asked for.
            So are small batches of a hot cache, once an epoch has shown that this takes less time
            than handing them over.
        resident: Names of items whose whole columns stay on the device.
        buffers: ``"fresh"``: a batch is the user's and is never written again. ``"ring"``: batches
            lie in ``prefetch + 1`` fixed sets of buffers in turn, as CUDA graphs need it; one is
            overwritten once the next was asked for.

    Raises:
        DatasetTypeError: ``dataset`` is not a ``KDDataset``; see :func:`as_kd`.
        UnknownItemError: The dataset has no such item.
        InvalidOptionError: Options do not fit, or not together.
        UnknownPluginError: No plugin brings the device; the message says what to install.
        DeviceUnavailableError: The machine has no such device.

    Example::

        loader = kappacore.Loader(dataset, "x class", batch_size=256, shuffle=True, device="cuda")
        for epoch in range(100):
            for x, label in loader:
                ...
    """

    def __init__(
        self,
        dataset: KDDataset,
        mode: str,
        batch_size: int = 1,
        *,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Sequence[int]] | None = None,
        drop_last: bool = False,
        pad: bool = True,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        device: str | torch.device = "cpu",
        items: Mapping[str, Mapping[str, Any]] | None = None,
        transform: Callable[[Any, Draw], Any] | None = None,
        return_ctx: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        workers: int = 0,
        prefetch: int = 2,
        resident: Sequence[str] = (),
        buffers: str = "fresh",
    ) -> None:
        self._mode = ModeWrapper(dataset, mode)
        self._names = tuple(mode.split())
        self.dataset = dataset
        self.mode = mode
        self.batch_size = as_integer(batch_size, "batch_size", least=1)
        self.shuffle, self._sampler, self.batch_sampler = shuffle, sampler, batch_sampler
        self.drop_last, self.pad = drop_last, pad
        self.seed = as_integer(seed, "seed", least=0)
        self.num_workers = as_integer(workers, "workers", least=0)
        self.prefetch = as_integer(prefetch, "prefetch", least=0)
        self.resident = (resident,) if isinstance(resident, str) else tuple(resident)
        self.buffers = buffers
        check_rank(rank, world_size)
        self._given_rank = rank, world_size
        self._options = parse_items(items, self._names)
        self.transform, self.return_ctx, self.collate_fn = transform, return_ctx, collate_fn
        self._check_options()
        check_decoding(self._mode, self._options)
        self._reader = Reader(self._mode, self._options, return_ctx, collate_fn)
        self._reading = Reading(self._reader, self.num_workers, self.seed)
        self._device = open_device(device)
        self._lock = threading.Lock()
        self._memory = Recycler(self.prefetch + 2)
        self._rings: list[Ring] = []  # of iterations that have ended
        self._whole: dict[int, torch.Tensor] | None = None
        self._place = Place()
        self._stats: list[LoaderStats] = []
        self._iterations: weakref.WeakSet[Iteration] = weakref.WeakSet()
        self._planner: Planner | None = None  # of the last iteration
        self._quick = False  # whether batches are made sooner than they are handed over
        self._closed = False

    def _check_options(self) -> None:
        if self._sampler is not None and self.shuffle:
            raise InvalidOptionError(
                "shuffle=True and a sampler= both say in which order samples come. Give one of "
                "them; to shuffle another selection, put a KDSubset around the dataset."
            )
        if self.batch_sampler is not None:
            others = {
                "batch_size": self.batch_size != 1,
                "shuffle": self.shuffle,
                "sampler": self._sampler is not None,
                "drop_last": self.drop_last,
            }
            given = ", ".join(name for name, value in others.items() if value)
            if given:
                raise InvalidOptionError(
                    f"a batch_sampler= says which samples are in which batch, and so does {given}. "
                    f"Give one of them."
                )
        for name in ("transform", "collate_fn"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise InvalidOptionError(f"{name}={value!r} cannot be called.")
        if self.buffers not in ("fresh", "ring"):
            raise InvalidOptionError(
                f"buffers={self.buffers!r}: expected 'fresh' (each batch has its own memory) or "
                f"'ring' (prefetch + 1 fixed sets of buffers)."
            )
        unknown = [name for name in self.resident if name not in self._names]
        if unknown:
            raise UnknownItemError(
                f"resident={self.resident!r}: the mode names no item {unknown[0]!r}, but "
                f"{', '.join(self._names)}."
            )
        columns = [name for name, options in self._options.items() if options != type(options)()]
        if self.collate_fn is not None and (columns or self.resident or self.buffers == "ring"):
            raise InvalidOptionError(
                "collate_fn= makes the whole batch, so that items=, resident= and buffers='ring' "
                "have nothing to work on. Give it without them, or do its work in transform=."
            )

    # ---- iterating

    def __len__(self) -> int:
        """Return the number of batches of an epoch, on this rank.

        Raises:
            TypeError: The sampler has no length.
        """
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        if self._sampler is not None:
            return len(BatchSampler(self._sampler, self.batch_size, self.drop_last))
        return count_batches(len(self._mode), self._share())

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch, or go on with one whose state was loaded.

        Raises:
            LoaderClosedError: The Loader was closed.
        """
        self._check_open()
        progress = self._place.begin(self._left())
        tell_epoch(self.dataset, progress.epoch)
        stats = LoaderStats(progress.epoch)
        ring = None
        if self.buffers == "ring":
            ring = self._rings.pop() if self._rings else Ring(self.prefetch + 1)
            ring.begin()
        iteration = Iteration(
            self._make(self._rows(), ring),
            device=self._device,
            names=self._names,
            ahead=0 if self._reads_in_the_loop or self._quick else self.prefetch,
            transform=self.transform,
            seed=self.seed,
            return_ctx=self.return_ctx,
            collated=self.collate_fn is not None,
            ring=ring,
            progress=progress,
            stats=stats,
        )
        if ring is not None:
            iteration.give_back = weakref.finalize(iteration, self._rings.append, ring)
        self._stats = [*self._stats[1 - _MOST_STATS :], stats]
        self._iterations.add(iteration)
        return iteration

    @property
    def _reads_in_the_loop(self) -> bool:
        """Whether samples draw from the global generators, which a thread shares with the loop."""
        return bool(self._mode.is_random) and not self.num_workers

    def _make(self, batches: Iterator[Rows], ring: Ring | None) -> Iterator[Made]:
        resident = self._resident()
        assembly = Assembly(self._device, self._reader, resident, self._lock, self._memory.allocate)
        planner = self._planner = Planner(self._reader, resident)
        # What a sampler raises is due with the batch that it was asked for.
        given = self._sampler is not None or self.batch_sampler is not None
        plans = planner.plans(batches, together=not given)
        read = self._reading.read(planner, plans, self._place.epoch)
        return self._made(assembly, planner, read, ring)

    def _made(
        self,
        assembly: Assembly,
        planner: Planner,
        read: Iterator[tuple[Plan, Columns]],
        ring: Ring | None,
    ) -> Iterator[Made]:
        """Make each batch, and note whether that takes less time than handing them over."""
        seconds = 0.0
        started = time.perf_counter()
        for batches, (plan, columns) in enumerate(read, 1):
            made = assembly.make(plan, columns, ring)
            seconds += time.perf_counter() - started
            self._quick = planner.small and seconds < batches * _HANDED_OVER_IN
            yield made
            started = time.perf_counter()

    def _rows(self) -> Iterator[Rows]:
        """Return the rows of each batch of this epoch, from the position to begin at."""
        length, share = len(self._mode), self._share()
        epoch, start = self._place.epoch, self._place.start
        given: Iterable[Sequence[int]] | None = self.batch_sampler
        if self._sampler is not None:
            given = BatchSampler(self._sampler, self.batch_size, self.drop_last)
        if given is None:
            order = draw_order(length, self.shuffle, self.seed, epoch)
            return global_batches(order, share, epoch, start)
        return given_batches(
            BatchesOfEpoch(epoch, given, self._sampler, self.batch_sampler),
            length,
            share.rank,
            share.world_size,
            epoch,
            start,
        )

    def _left(self) -> Callable[[int], int] | None:
        """Return what counts the batches from a position on; None where a sampler chooses them."""
        if self._sampler is not None or self.batch_sampler is not None:
            return None
        return lambda position: count_batches(len(self._mode) - position, self._share())

    def _share(self) -> Share:
        rank, world_size = find_rank(*self._given_rank)
        return Share(self.batch_size, rank, world_size, self.drop_last, self.pad)

    def _resident(self) -> dict[int, torch.Tensor]:
        """Return the whole columns that stay on the device, read at the first iteration."""
        if self._whole is None:
            whole = {
                position: read_whole(self._reader, position, self._place.epoch)
                for position, name in enumerate(self._names)
                if name in self.resident
            }
            with self._lock, self._device.reading():
                columns = {
                    position: convert(
                        self._device.upload(column), self._options[self._names[position]]
                    )
                    for position, column in whole.items()
                }
                mark = self._device.finish()
            self._device.take(mark, list(columns.values()))
            self._whole = columns
        return self._whole

    # ---- epochs and states

    @property
    def sampler(self) -> Loader:
        """The Loader itself: trainers tell it the epoch by ``loader.sampler.set_epoch``."""
        return self

    @property
    def epoch(self) -> int:
        """The epoch of an iteration that begins now."""
        return self._place.next(self._left())[0]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, or of an iterator that has not given a batch yet.

        An iteration that runs goes on in its own epoch; if another one was set, a
        ``LateEpochWarning`` says so with its next batch.

        Args:
            epoch: The epoch's number, starting at 0. If a state of this epoch was loaded, the
                iteration begins where the state says, otherwise at the beginning. If no batch was
                left of it, there is none.
        """
        moved = self._place.set(as_integer(epoch, "epoch", least=0))
        if moved is None:
            return
        for iteration in list(self._iterations):
            if iteration.progress is moved and not iteration.ended:
                tell_epoch(self.dataset, moved.epoch)
                iteration.begin_anew(lambda ring: self._make(self._rows(), ring))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the last iteration: its epoch, and how far the loop has come.

        Positions count samples of all ranks, so another number of ranks can go on from it.
        """
        return {"version": _VERSION, **self._place.state(), **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration begin where a state says.

        Where this rank has no batch left of it, that is the next epoch; or, if :meth:`set_epoch`
        asks for the epoch of the state, an iteration without a batch.

        Args:
            state: What :meth:`state_dict` returned, of this Loader or of one of other ranks.

        Raises:
            LoaderStateError: It is the state of another dataset, seed or order.
        """
        lacking = {"version", "epoch", "position"} - state.keys()
        if lacking or state["version"] != _VERSION:
            raise LoaderStateError(
                f"{dict(state)!r} is no state of a Loader of this version of kappacore; expected "
                f"what state_dict() returned."
            )
        own = self._identity()
        for name, value in own.items():
            if state.get(name) != value:
                raise LoaderStateError(
                    f"the state has {name}={state.get(name)!r}, and this Loader {name}={value!r}: "
                    f"its position means other samples here. Load the state into a Loader of the "
                    f"same dataset, seed and order, or begin anew without it."
                )
        self._place.load(state)

    def _identity(self) -> dict[str, Any]:
        """Return what must be the same for a position to mean the same samples."""
        order = "given" if self._sampler is not None or self.batch_sampler is not None else ""
        order = order or ("shuffled" if self.shuffle else "sequential")
        return {
            "samples": len(self.dataset),
            "dataset": self._mode.sample_fingerprint(),
            "seed": self.seed,
            "order": order,
        }

    # ---- for people, and the end

    def stats(self) -> tuple[LoaderStats, ...]:
        """Return what each iteration waited for, the last 1,000 of them, the latest last."""
        return tuple(self._stats)

    def explain(self) -> str:
        """Return how batches are made, and what the last epoch waited for, as text."""
        lines = [f"batches: {self.batch_size} rows of {self.mode!r} on {self._device.device}"]
        lines += [f"  {line}" for line in self._device.explain()]
        roads = {} if self._planner is None else self._planner.roads
        lines += [f"  {self._names[position]}: {road}" for position, road in sorted(roads.items())]
        lines += [f"  {name}: whole column on the device" for name in self.resident]
        if self._reads_in_the_loop:
            lines.append(
                "  read when they are asked for, as the dataset draws random numbers: workers= "
                "reads them ahead"
            )
        elif self._quick and self.prefetch:
            lines.append("  made in the loop, which takes less time than handing them over")
        if self._stats:
            last = self._stats[-1]
            lines.append(
                f"  epoch {last.epoch}: {last.batches} batches; {last.seconds_data:.2f} s waited "
                f"for data, {last.seconds_step:.2f} s ahead of the step"
            )
        return "\n".join(lines)

    def close(self) -> None:
        """End all iterations and release the device; the dataset stays open."""
        for iteration in list(self._iterations):
            iteration.close()
        self._whole = None
        self._rings.clear()
        self._device.close()
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise LoaderClosedError(
                "this Loader was closed; make a new one to iterate again. The dataset is open."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
