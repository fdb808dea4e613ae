"""Find the CUDA device without torch, and call CUDA's runtime."""

from typing import Any

from melfast.engines.base import UnusableError
from melfast.io.schema import checked


@checked()
class Gpu:
    """A CUDA device.

    Attributes:
        compute_capability: for example "9.0".
    """

    name: str
    compute_capability: str

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability})"


def find_gpu() -> Gpu:
    """The first CUDA device.

    Raises:
        UnusableError: no usable device.
    """
    try:
        from cuda.bindings import runtime
    except ModuleNotFoundError:
        raise UnusableError("cuda-bindings is not installed: pip install cuda-bindings") from None
    try:
        if call(runtime.cudaGetDeviceCount()) == 0:
            raise UnusableError("no GPU")
    except CudaError as error:
        raise UnusableError(f"no GPU ({error})") from None
    found = call(runtime.cudaGetDeviceProperties(0))
    return Gpu(found.name.decode(), f"{found.major}.{found.minor}")


class CudaError(RuntimeError):
    """A call of CUDA's runtime failed; the message is its error name."""


def call(answer: tuple[Any, ...]) -> Any:
    """The result of a function of cuda.bindings.runtime without its error code.

    Raises:
        CudaError: the code is an error.
    """
    code, *values = answer
    if int(code) != 0:
        raise CudaError(code.name)
    return values[0] if len(values) == 1 else None
