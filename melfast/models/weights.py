"""Load weights from a third-party file: only tensors, never pickled code."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from melfast.io.errors import InputError

# Keys under which training scripts store tensors, and prefixes of their names.
HOLDERS = ("state_dict", "model", "model_ema", "state_dict_ema", "teacher")
PREFIXES = ("module.", "_orig_mod.", "backbone.", "network.")


@dataclass(frozen=True)
class Loaded:
    """What happened to the tensors of a file.

    Attributes:
        count: number of loaded tensors.
        missing: tensors of the network that are not in the file; unchanged.
        unexpected: tensors of the file that are not in the network.
        shapes: tensors with a different shape in both, for example when the classes differ; unchanged.
    """

    count: int
    missing: list[str]
    unexpected: list[str]
    shapes: list[str]

    def __str__(self) -> str:
        parts = [f"{self.count} tensors loaded"]
        for what in ("missing", "unexpected", "shapes"):
            names = getattr(self, what)
            if names:
                shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
                label = "of another shape" if what == "shapes" else what
                parts.append(f"{len(names)} {label} ({shown})")
        return "; ".join(parts)


def load_file(model: torch.nn.Module, path: str | Path) -> Loaded:
    """Fills a network with the matching tensors of a .safetensors, .pth or .pt file.

    Raises:
        InputError: the file cannot be read, contains more than tensors, or nothing matches.
    """
    found = read_tensors(Path(path))
    wanted = model.state_dict()
    common = [name for name in wanted if name in found]
    fitting = {name: found[name] for name in common if found[name].shape == wanted[name].shape}
    if not fitting:
        raise InputError(
            f"{path}: none of its {len(found)} tensors fits the network; it has "
            f"{', '.join(list(found)[:3])}, expected {', '.join(list(wanted)[:3])}"
        )
    model.load_state_dict(fitting, strict=False)
    return Loaded(
        len(fitting),
        [name for name in wanted if name not in found],
        [name for name in found if name not in wanted],
        [name for name in common if name not in fitting],
    )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, from under the usual keys and without the usual prefixes.

    Raises:
        InputError: as load_file.
    """
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError:
        # The message of torch is long and suggests disabling its safeguard.
        raise InputError(
            f"{path}: holds more than tensors, or no tensors; expected a state_dict (.safetensors or torch.save of one)"
        ) from None
    except (safetensors.SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{path}: not a complete file of weights: {error}") from None
    while isinstance(content, dict) and (held := [k for k in HOLDERS if k in content]):
        if isinstance(content[held[0]], torch.Tensor):
            break
        content = content[held[0]]
    tensors = (
        {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
        if isinstance(content, dict)
        else {}
    )
    if not tensors:
        raise InputError(f"{path}: holds no named tensors; expected a state_dict")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors
