"""Torch tensors. Imported only once torch is in use or a stored value holds a tensor."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kappacore.caching.codec.arrays import check_items, memory_of
from kappacore.caching.codec.layout import MAX_NDIM
from kappacore.caching.codec.reading import ALONE, READERS
from kappacore.caching.codec.writing import PLAIN_WRITERS, WRITERS, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.caching.codec.reading import Reader
    from kappacore.caching.codec.writing import Writer

#: dtypes that NumPy has as well
_SHARED = (
    "bool", "uint8", "int8", "int16", "int32", "int64",
    "float16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip
#: dtypes whose bits are stored as integers of the same size; older versions of torch lack some
_CARRIED = {
    "bfloat16": torch.int16, "uint16": torch.int16, "uint32": torch.int32, "uint64": torch.int64,
    "complex32": torch.int32, "float8_e4m3fn": torch.uint8, "float8_e5m2": torch.uint8,
    "float8_e4m3fnuz": torch.uint8, "float8_e5m2fnuz": torch.uint8, "float8_e8m0fnu": torch.uint8,
    "float4_e2m1fn_x2": torch.uint8,
}  # fmt: skip


def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    return torch.empty(0, dtype=dtype).numpy().dtype


#: name -> dtype, NumPy's dtype for its bits, torch's dtype for its bits where that is another
_DTYPES: dict[str, tuple[torch.dtype, np.dtype[Any], torch.dtype | None]] = {
    **{name: (getattr(torch, name), _numpy_dtype(getattr(torch, name)), None) for name in _SHARED},
    **{
        name: (getattr(torch, name), _numpy_dtype(carrier), carrier)
        for name, carrier in _CARRIED.items()
        if hasattr(torch, name)
    },
}
_NAMES = {dtype: (name, carrier) for name, (dtype, _, carrier) in _DTYPES.items()}

# newer versions of torch have no named dimensions
_has_names: Callable[[torch.Tensor], bool] = getattr(torch.Tensor, "has_names", lambda _: False)

#: Layouts with the channels last in memory: letter -> permutation to torch's order.
_CHANNELS_LAST = {"L": (0, 3, 1, 2), "M": (0, 4, 1, 2, 3)}


def write_tensor(writer: Writer, tensor: torch.Tensor) -> None:
    """Write a dense CPU tensor; `requires_grad`, hooks and attributes are not part of it."""
    named = _NAMES.get(tensor.dtype)
    if (
        named is None or tensor.layout is not torch.strided or not tensor.is_cpu
        or tensor.is_nested or _has_names(tensor) or tensor.dim() > MAX_NDIM
    ):  # fmt: skip
        raise Refusal(_why_not(tensor))
    writer.check_size(tensor.nbytes)
    name, carrier = named
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.is_conj():
        tensor = tensor.resolve_conj()
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    if carrier is not None:
        tensor = tensor.view(carrier)
    layout = "C"
    if not tensor.is_contiguous():
        if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
            layout, tensor = "L", tensor.permute(0, 2, 3, 1)
        elif tensor.dim() == 5 and tensor.is_contiguous(memory_format=torch.channels_last_3d):
            layout, tensor = "M", tensor.permute(0, 2, 3, 4, 1)
        else:
            tensor = tensor.contiguous()
    array = tensor.numpy()
    offset = writer.put_array(memory_of(array)) if array.size else 0
    writer.put("x", name, layout, array.ndim, *array.shape, offset)


def read_tensor(reader: Reader) -> torch.Tensor:
    """Read what :func:`write_tensor` wrote."""
    entry = _DTYPES.get(reader.operand())  # type: ignore[arg-type]  # anything else is no key
    if entry is None:
        raise ValueError("a tensor has an unknown dtype")
    dtype, carrier, cast = entry
    layout = reader.operand()
    array = reader.array(carrier, reader.shape())
    if dtype is torch.bool:
        check_items(array)
    if array.flags.writeable:
        tensor = torch.from_numpy(array)
    elif reader.unsafe:
        tensor = _view(array)
    else:  # torch has no read-only tensors
        tensor = torch.from_numpy(array.copy())
    if cast is not None:
        tensor = tensor.view(dtype)
    if layout != "C":
        back = _CHANNELS_LAST.get(layout)  # type: ignore[arg-type]
        if back is None or array.ndim != len(back):
            raise ValueError("a tensor's layout does not fit its shape")
        tensor = tensor.permute(back)
    return tensor


def _view(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """Return a tensor on memory that it can write, though the array cannot."""
    _use_up_the_warning()
    return torch.from_numpy(array)


@functools.cache
def _use_up_the_warning() -> None:
    # torch warns of the first read-only array of a process; here the user has asked for it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.from_numpy(np.ndarray(1, np.uint8, b"x"))


def _why_not(tensor: torch.Tensor) -> str:
    if tensor.device.type == "meta":
        return "it is a tensor on the device meta, which has no values"
    if tensor.is_quantized:
        return f"it is a quantized tensor ({tensor.dtype}); cache tensor.int_repr() and its scale"
    if tensor.is_nested:
        return "it is a nested tensor; cache the list tensor.unbind()"
    if tensor.layout is not torch.strided:
        return f"it is a tensor of layout {tensor.layout}; cache tensor.to_dense() or its parts"
    if tensor.device.type != "cpu":
        return f"it is a tensor on the device {tensor.device}; cache tensor.cpu()"
    if _has_names(tensor):
        return "it is a tensor with named dimensions; cache tensor.rename(None)"
    if tensor.dim() > MAX_NDIM:
        return f"it is a tensor of {tensor.dim()} dimensions, of {MAX_NDIM} at most"
    return f"tensors of dtype {tensor.dtype} are not supported; view it as torch.uint8"


WRITERS[torch.Tensor] = write_tensor
PLAIN_WRITERS[torch.Size] = WRITERS[tuple]
ALONE["x"] = (
    {name: _DTYPES[name][1] for name in _SHARED if name != "bool"},
    torch.from_numpy,
    _view,
)
READERS["x"] = read_tensor
