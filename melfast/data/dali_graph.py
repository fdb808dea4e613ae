"""The graph of DALI operators that carries out a plan's records; the same on CPU and GPU."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from melfast.data.augment import IDENTITY
from melfast.data.loader import INSTALL_DALI
from melfast.data.plan import EpochPlan
from melfast.errors import InputError
from melfast.preprocess import Preprocess
from melfast.skin.light import RGB_TO_XYZ, WHITE, level_to_light

LAB_BREAK, LAB_SLOPE, LAB_OFFSET = 0.008856, 7.787, 16 / 116


@dataclass(frozen=True)
class Parts:
    """What the graph must be able to do, and with it what it is fed for each record.

    Attributes:
        size: height and width of the output.
        dtype: of the output.
        warp, mask, former, jitter, erase: whether any record asks for it.
    """

    size: tuple[int, int]
    dtype: np.dtype[Any]
    warp: bool
    mask: bool
    former: bool
    jitter: bool
    erase: bool

    @classmethod
    def of(cls, plan: EpochPlan, preprocess: Preprocess, dtype: np.dtype[Any]) -> Self:
        former = plan.target_ita is not None
        return cls(
            (preprocess.height, preprocess.width), dtype, bool((plan.affine != IDENTITY).any()),
            former or plan.masked is not None, former, plan.jitter is not None,
            plan.erase is not None,
        )  # fmt: skip

    @property
    def inputs(self) -> list[str]:
        """Names of what a record is fed as, in order; a part's come together."""
        names = ["encoded"]
        names += ["working", "matrix"] if self.warp else []
        names += ["plane", "masked"] if self.mask else []
        names += ["end", "k", "m"] if self.former else []
        names += ["jitter"] if self.jitter else []
        return names + (["anchor", "shape"] if self.erase else [])


def build_pipeline(
    source: Iterator[Any], parts: Parts, preprocess: Preprocess, *, batch_size: int, threads: int,
    device_id: int | None, prefetch: int,
) -> Any:  # fmt: skip
    """A built pipeline that ends with its source.

    Args:
        source: gives batches, a list a name of `parts.inputs`.
        device_id: the GPU; None: everything on the CPU.
    Raises:
        InputError: DALI is not installed.
    """
    try:
        from nvidia.dali import fn
        from nvidia.dali.pipeline import Pipeline
    except ImportError:
        raise InputError(f"the DALI loader needs NVIDIA DALI: {INSTALL_DALI}") from None
    with Pipeline(
        batch_size=batch_size, num_threads=threads, device_id=device_id,
        prefetch_queue_depth=prefetch,
    ) as pipeline:  # fmt: skip
        layouts = {"encoded": "", "plane": "HWC"}
        given = fn.external_source(
            source=source, num_outputs=len(parts.inputs),
            layout=[layouts.get(name, "") for name in parts.inputs],
        )  # fmt: skip
        pipeline.set_outputs(
            _graph(dict(zip(parts.inputs, given, strict=True)), parts, preprocess, device_id)
        )
    pipeline.build()
    return pipeline


def _graph(
    given: dict[str, Any], parts: Parts, preprocess: Preprocess, device_id: int | None
) -> Any:
    from nvidia.dali import fn
    from nvidia.dali.types import FLOAT, INTERP_TRIANGULAR, RGB

    def on_device(name: str) -> Any:
        return given[name] if device_id is None else given[name].gpu()

    levels: Any = fn.decoders.image(
        given["encoded"], device="cpu" if device_id is None else "mixed", output_type=RGB,
        jpeg_fancy_upsampling=True,
    )  # fmt: skip
    levels = fn.resize(
        levels, size=given["working"] if parts.warp else list(parts.size),
        interp_type=INTERP_TRIANGULAR, antialias=True,
    )  # fmt: skip
    if parts.warp:
        levels = fn.warp_affine(levels, matrix=given["matrix"], size=list(parts.size))
    if parts.mask:
        inside = on_device("plane") / 255.0
    if parts.former:
        light = _light_of(levels)
        curves = on_device("end") * light / (on_device("k") + on_device("m") * light)
        moved = _round(255.0 * _encode(curves))
        levels = _round(levels * inside + moved * (1.0 - inside))
    if parts.jitter:
        levels = fn.coord_transform(levels, MT=given["jitter"], dtype=FLOAT)
        levels = fn.reinterpret(_round(levels), layout="HWC")
    if parts.mask:
        masked = on_device("masked")
        levels = _round(levels * (inside * masked + (1.0 - masked)))
    if parts.erase:
        levels = fn.erase(
            levels, anchor=given["anchor"], shape=given["shape"], axis_names="HW",
            fill_value=list(map(float, preprocess.fill)),
        )  # fmt: skip
    return _normalised(levels, parts, preprocess)


def _round(values: Any) -> Any:
    """To the nearest of 0..255."""
    from nvidia.dali import fn
    from nvidia.dali.types import UINT8

    return fn.cast(values, dtype=UINT8)


def _light_of(levels: Any) -> Any:
    """Linear light in 0..1 of sRGB levels."""
    from nvidia.dali import fn
    from nvidia.dali.types import FLOAT

    return fn.lookup_table(
        levels, keys=list(range(256)), values=level_to_light(np.arange(256)).tolist(),
        dtype=FLOAT,
    )  # fmt: skip


def _encode(light: Any) -> Any:
    """sRGB in 0..1 of linear light, clipped."""
    from nvidia.dali import math

    light = math.clamp(light, 0.0, 1.0)
    bright = light > 0.0031308
    return (
        bright * (1.055 * math.pow(light, 1 / 2.4) - 0.055) + (light <= 0.0031308) * 12.92 * light
    )


def _normalised(levels: Any, parts: Parts, preprocess: Preprocess) -> Any:
    """(value - mean) / std in the colour space of the model; uint8 stays as it is."""
    from nvidia.dali import fn
    from nvidia.dali.types import FLOAT, FLOAT16

    if parts.dtype == np.uint8:
        return levels
    wanted = FLOAT16 if parts.dtype == np.float16 else FLOAT
    mean, std = np.array(preprocess.mean), np.array(preprocess.std)
    if preprocess.colour == "rgb":
        return fn.crop_mirror_normalize(
            levels, mean=(255 * mean).tolist(), std=(255 * std).tolist(), dtype=wanted,
            output_layout="HWC",
        )  # fmt: skip
    xyz = fn.coord_transform(_light_of(levels), M=(RGB_TO_XYZ / WHITE[:, None]).ravel().tolist())
    # L = 116 y - 16, a = 500 (x - y), b = 200 (y - z), and the normalisation after it.
    to_lab = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]]) / std[:, None]
    offset = (np.array([-16, 0, 0]) - mean) / std
    lab = fn.coord_transform(
        _lab_curve(xyz), M=to_lab.ravel().tolist(), T=offset.tolist(), dtype=FLOAT
    )
    return lab if wanted == FLOAT else fn.cast(lab, dtype=wanted)


def _lab_curve(t: Any) -> Any:
    """CIE 15: a cube root with a straight piece near black."""
    from nvidia.dali import math

    bright = t > LAB_BREAK
    return bright * math.cbrt(t) + (t <= LAB_BREAK) * (LAB_SLOPE * t + LAB_OFFSET)
