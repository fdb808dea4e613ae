"""The CUDA device, found without torch; and calls of CUDA's runtime."""

from typing import Any

from melfast.engines.base import UnusableError
from melfast.io.schema import checked


@checked()
class Gpu:
    """A CUDA device.

    Attributes:
        compute_capability: as "9.0".
    """

    name: str
    compute_capability: str

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability})"


def find_gpu() -> Gpu:
    """The first CUDA device.

    Raises:
        UnusableError: there is none that can be used.
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
    """A call of CUDA's runtime failed; its name for that."""


def call(answer: tuple[Any, ...]) -> Any:
    """What a function of cuda.bindings.runtime gave besides its error code.

    Raises:
        CudaError: the code is one.
    """
    code, *values = answer
    if int(code) != 0:
        raise CudaError(code.name)
    return values[0] if len(values) == 1 else None
