"""The device on a GPU: registered memory, streams, buffers, decoding."""

from __future__ import annotations

import gc
import inspect
import io
import mmap

import numpy as np
import pytest
import torch
from PIL import Image

import kappacore
from kappa_cuda.device import CUDA
from kappa_cuda.registry import registry
from kappacore.datasets import find_item
from kappacore.plugins import register_device, unregister_device
from kappacore.testing import DeviceSuite
from support.loading import Photos, equal, expected

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch.cuda.is_available() is False: no GPU"
)


@pytest.fixture(autouse=True)
def gpu():
    """The device under another name, which needs no installed distribution."""
    register_device("gpu", CUDA)
    yield "gpu"
    unregister_device("gpu")
    gc.collect()
    assert registry._regions == {}  # each Loader was closed


class TestSuite(DeviceSuite):
    device = "gpu"


def on_cpu(value):
    return tuple(each.cpu() if hasattr(each, "cpu") else each for each in value)


@pytest.fixture(params=["shared", "memory"])
def hot(request):
    with kappacore.CacheWrapper(
        Photos(200, (32, 32)),
        request.param,
        items="x boxes",
        namespace="p",
        max_bytes="64MiB",
    ) as ds:
        ds.prefill(progress=False)
        yield ds


@pytest.mark.parametrize("buffers", ["fresh", "ring"])
def test_batches_are_those_of_the_cpu(hot, buffers):
    options = {"shuffle": True, "items": {"boxes": {"ragged": "jagged"}}}
    there = kappacore.Loader(hot, "x boxes class", 32, device="gpu", buffers=buffers, **options)
    here = kappacore.Loader(hot, "x boxes class", 32, **options)
    with there:
        for found, wanted in zip(there, here, strict=True):
            assert found["x"].is_cuda
            assert equal(found["x"].cpu(), wanted["x"])
            assert equal(on_cpu(found["boxes"]), tuple(wanted["boxes"]))
            assert equal(found["class"].cpu(), wanted["class"])


def test_a_hot_cache_is_registered_once_and_unregistered_at_the_end():
    with kappacore.CacheWrapper(
        Photos(200, (32, 32)), "shared", items="x", namespace="p", max_bytes="64MiB"
    ) as ds:
        ds.prefill(progress=False)
        with kappacore.Loader(ds, "x", 32, device="gpu") as first:
            list(first)
            (region,) = registry._regions.values()
            assert region.refused == ""
            assert region.end >= 200 * 3072
            assert region.end % mmap.PAGESIZE == 0
            parts = list(region.parts)
            with kappacore.Loader(ds, "x", 32, device="gpu") as second:
                list(second)
                assert region.parts == parts
                assert len(region.users) == 2
            assert len(region.users) == 1
            assert "of caches registered: the GPU reads them" in first.explain()
        assert registry._regions == {}


def test_only_what_is_new_is_registered_when_a_cache_grows():
    with kappacore.CacheWrapper(
        Photos(400, (128, 128)), "shared", items="x", namespace="p", max_bytes="256MiB"
    ) as ds:
        kappacore.ModeWrapper(ds, "x")[:200]
        with kappacore.Loader(kappacore.KDSubset(ds, range(200)), "x", 50, device="gpu") as loader:
            list(loader)
            (region,) = registry._regions.values()
            before = list(region.parts)
            kappacore.ModeWrapper(ds, "x")[200:]
            list(loader)
            list(loader)
            assert region.parts[: len(before)] == before
            assert region.end >= 400 * 49152
            for batch, first in zip(loader, range(0, 200, 50), strict=True):
                wanted = expected(Photos(400, (128, 128)), "x", range(first, first + 50))
                assert torch.equal(batch.cpu(), wanted)


def test_a_cache_that_is_cleared_leaves_batches_as_they_are():
    with kappacore.CacheWrapper(
        Photos(64, (64, 64)), "shared", items="x", namespace="p", max_bytes="64MiB"
    ) as ds:
        ds.prefill(progress=False)
        with kappacore.Loader(ds, "x", 8, device="gpu", prefetch=4) as loader:
            for _ in range(3):
                for number, batch in enumerate(loader):
                    if number == 3:
                        ds.clear()
                    wanted = expected(Photos(64, (64, 64)), "x", range(8 * number, 8 * number + 8))
                    assert torch.equal(batch.cpu(), wanted)


def test_memory_that_the_driver_refuses_goes_through_pinned_buffers():
    """As under a limit on locked memory; here, because somebody else has registered it."""
    with kappacore.CacheWrapper(
        Photos(64, (64, 64)), "shared", items="x", namespace="p", max_bytes="64MiB"
    ) as ds:
        ds.prefill(progress=False)
        region = find_item(ds, "x").locate_batch(np.arange(1)).regions[0]
        address = np.frombuffer(region, np.uint8).ctypes.data
        cudart = torch.cuda.cudart()
        assert int(cudart.cudaHostRegister(address, mmap.PAGESIZE, 8)) == 0
        try:
            with kappacore.Loader(ds, "x", 16, device="gpu") as loader:
                found = torch.cat([batch.cpu() for batch in loader])
                assert torch.equal(found, expected(Photos(64, (64, 64)), "x", range(64)))
                assert "through pinned memory: the driver refused to register" in loader.explain()
        finally:
            cudart.cudaHostUnregister(address)
        assert torch.ones(3, device="cuda").sum().item() == 3  # no error is left


def test_the_loop_may_use_a_batch_on_a_stream_of_its_own(hot):
    wanted = [batch.double().sum() for batch in kappacore.Loader(hot, "x", 32)]
    stream = torch.cuda.Stream()
    with kappacore.Loader(hot, "x", 32, device="gpu", prefetch=4) as loader:
        for _ in range(3):
            sums = []
            with torch.cuda.stream(stream):
                for batch in loader:
                    torch.cuda._sleep(1_000_000)
                    sums.append(batch.double().sum())
                    del batch
            stream.synchronize()
            assert [each.item() for each in sums] == [each.item() for each in wanted]


def test_a_ring_is_written_once_the_loop_has_used_it(hot):
    wanted = [batch.double().sum() for batch in kappacore.Loader(hot, "x", 32)]
    with kappacore.Loader(hot, "x", 32, device="gpu", buffers="ring", prefetch=1) as loader:
        for _ in range(3):
            sums = []
            for batch in loader:
                torch.cuda._sleep(10_000_000)
                sums.append(batch.double().sum())
            assert [each.item() for each in sums] == [each.item() for each in wanted]


def test_a_cuda_graph_reads_the_ring(hot):
    loader = kappacore.Loader(
        hot, "x", 32, device="gpu", buffers="ring", prefetch=1, drop_last=True,
        items={"x": {"mean": 0.5, "layout": "channels_last"}},
    )  # fmt: skip
    plain = kappacore.Loader(
        hot, "x", 32, drop_last=True, items={"x": {"mean": 0.5, "layout": "channels_last"}}
    )
    graphs = {}
    with loader:
        for batch, wanted in zip(loader, plain, strict=True):
            address = batch.data_ptr()
            if address not in graphs:
                torch.cuda.synchronize()
                graph = torch.cuda.CUDAGraph()
                # The thread that reads ahead goes on meanwhile.
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    result = batch.sum()
                graphs[address] = graph, result
            graph, result = graphs[address]
            graph.replay()
            torch.testing.assert_close(result.cpu(), wanted.sum(), rtol=1e-3, atol=1e-1)
        assert len(graphs) == 2


def profiled():
    """Return a profile of kernels; newer versions of torch warn unless told to keep all events."""
    options = {"activities": [torch.profiler.ProfilerActivity.CUDA]}
    if "acc_events" in inspect.signature(torch.profiler.profile).parameters:
        options["acc_events"] = True
    return torch.profiler.profile(**options)


def test_casting_normalising_and_laying_out_is_one_kernel():
    options = {"mean": (0.5,) * 3, "std": (0.2,) * 3, "layout": "channels_last"}
    from kappacore.loading.convert import convert
    from kappacore.loading.options import ItemOptions

    images = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8, device="cuda")
    for dtype in (torch.float32, torch.bfloat16):
        chosen = ItemOptions(dtype=dtype, **options)
        convert(images, chosen)
        with profiled() as profile:
            found = convert(images, chosen)
            torch.cuda.synchronize()
        kernels = [event.key for event in profile.key_averages() if "elementwise" in event.key]
        assert len(kernels) == 1
        assert found.is_contiguous(memory_format=torch.channels_last)
        wanted = convert(images.cpu(), chosen)
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-2, atol=1e-2)


def test_draws_are_those_of_the_cpu(hot):
    def noise(x, draw):
        draw.params["noise"] = draw.rand(5)
        draw.params["whole"] = draw.randint(0, 100)
        return x

    options = {"transform": noise, "return_ctx": True}
    with kappacore.Loader(hot, "class", 32, device="gpu", **options) as there:
        here = kappacore.Loader(hot, "class", 32, **options)
        for (_, found), (_, wanted) in zip(there, here, strict=True):
            assert equal(on_cpu([*found.values()]), tuple(wanted.values()))


def jpegs(number, subsampling, size=(384, 512)):
    """Return JPEGs of the size and smoothness of photographs, with an edge."""
    files = []
    for seed in range(number):
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
        image.paste((40 * seed % 256, 90, 200), (100, 50, 301, 203))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=92, subsampling=subsampling)
        files.append(out.getvalue())
    return files


# nvJPEG repeats colours that are stored at half the resolution, where Pillow interpolates them: at
# 64x48 the same pictures differ by 3 to 4 on average. Brightness differs by rounding alone.
@pytest.mark.parametrize(("subsampling", "most"), [("4:4:4", 1), ("4:2:0", 2)])
def test_jpegs_are_decoded_by_the_gpu(subsampling, most):
    pytest.importorskip("torchvision")
    device = CUDA(None)
    files = [*jpegs(7, subsampling), b"no JPEG at all"]
    with device.reading():
        found = device.decode([torch.tensor([*file], dtype=torch.uint8) for file in files])
        mark = device.finish()
    device.take(mark, [each for each in found if each is not None])
    assert found[-1] is None
    for file, image in zip(files[:-1], found, strict=False):
        wanted = torch.from_numpy(np.array(Image.open(io.BytesIO(file))))
        difference = (image.cpu().int() - wanted.int()).abs()
        assert image.shape == wanted.shape
        assert difference.float().mean() < most  # other pixels than Pillow's, by this much
    device.close()
