"""The steps of a record as a graph of DALI's stock operators, the same on the CPU and on a GPU.

The inputs of a plan decide which parts the graph has: one part for each array that is fed. Every
step returns uint8, as in the native loader, up to the colour conversion.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, math, types
from nvidia.dali.pipeline import Pipeline

from melfast.data.preprocess import Preprocess
from melfast.io.words import check_words
from melfast.skin.light import RGB_TO_XYZ, WHITE, level_to_light, light_to_level

Node = Any
Device = Literal["cpu", "gpu"]

LAYOUTS = {"plane": "HWC"}
OUTPUTS = {"float32": types.FLOAT, "float16": types.FLOAT16}
# The encoding of linear light is looked up: 16 bits are 20 steps to a level where it is finest.
FINEST = 65535
LIGHT_OF_LEVEL = level_to_light(np.arange(256))
LEVEL_OF_LIGHT = light_to_level(np.arange(FINEST + 1) / FINEST)


def build_pipeline(
    source: Callable[[], tuple[Any, ...]],
    names: list[str],
    preprocess: Preprocess,
    dtype: np.dtype[Any],
    *,
    device_id: int | None,
    batch_size: int,
    threads: int,
    prefetch: int,
) -> Pipeline:
    """A pipeline with one output, images [B, H, W, 3].

    Args:
        source: returns the next batch of each input, or raises StopIteration.
        names: names of these inputs, see melfast.data.dali_feed.
        device_id: GPU; None: the graph runs on the CPU.
        batch_size: size of the largest batch.
        prefetch: number of batches in progress, including the one that is waited for.
    """
    device: Device = "cpu" if device_id is None else "gpu"
    pipe = Pipeline(batch_size, threads, device_id, prefetch_queue_depth=prefetch)
    with pipe:
        layouts = [LAYOUTS.get(name, "") for name in names]
        nodes = fn.external_source(source, num_outputs=len(names), layout=layouts)
        inputs = dict(zip(names, nodes, strict=True))
        pipe.set_outputs(finished(levels(inputs, preprocess, device), preprocess, dtype))
    pipe.build()
    return pipe


@check_words
def levels(inputs: dict[str, Node], preprocess: Preprocess, device: Device) -> Node:
    """Converts the encoded files to uint8 sRGB [H, W, 3] and applies all records."""
    size = [preprocess.height, preprocess.width]

    def placed(name: str) -> Node:
        """An input on the device of the images; arguments of operators stay on the CPU."""
        return inputs[name].gpu() if device == "gpu" else inputs[name]

    image = fn.decoders.image(
        inputs["encoded"],
        device="mixed" if device == "gpu" else "cpu",
        output_type=types.RGB,
        jpeg_fancy_upsampling=True,
    )
    working = inputs.get("working", size)
    image = fn.resize(image, size=working, interp_type=types.INTERP_TRIANGULAR, antialias=True)
    if "matrix" in inputs:  # without a fill value the edges are clamped
        image = fn.slice(image, start=inputs["start"], shape=inputs["inner"], axis_names="HW")
        image = fn.warp_affine(image, matrix=inputs["matrix"], size=size, interp_type=types.INTERP_LINEAR)
    if "end" in inputs:
        image = skin_moved(image, placed("plane"), placed("end"), placed("k"), placed("m"))
    if "jitter" in inputs:
        image = fn.coord_transform(image, MT=inputs["jitter"], dtype=types.UINT8)
    if "floor" in inputs:
        inside = math.max(placed("plane"), placed("floor"))
        image = fn.cast(image * (inside * (1 / 255)), dtype=types.UINT8)
    if "anchor" in inputs:
        image = fn.erase(
            image, anchor=inputs["anchor"], shape=inputs["shape"], axis_names="HW", fill_value=list(preprocess.fill)
        )
    return image


def skin_moved(image: Node, plane: Node, end: Node, k: Node, m: Node) -> Node:
    """The skin-former: curves of linear light outside the lesion mask."""
    light = looked_up(image, LIGHT_OF_LEVEL)
    light = math.clamp(end * light / (k + m * light), 0.0, 1.0)
    level = looked_up(fn.cast(light * float(FINEST), dtype=types.UINT16), LEVEL_OF_LIGHT)
    return fn.cast(level + plane * (1 / 255) * (image - level), dtype=types.UINT8)


def finished(image: Node, preprocess: Preprocess, dtype: np.dtype[Any]) -> Node:
    """Colour conversion and normalisation of uint8 sRGB; uint8 is left as it is."""
    if dtype == np.uint8:
        return image
    wanted = OUTPUTS[dtype.name]
    mean, std = np.array(preprocess.mean), np.array(preprocess.std)
    if preprocess.colour == "rgb":
        return fn.crop_mirror_normalize(
            image, mean=(255 * mean).tolist(), std=(255 * std).tolist(), dtype=wanted, output_layout="HWC"
        )
    light = looked_up(image, LIGHT_OF_LEVEL)
    xyz = fn.coord_transform(light, M=flat(RGB_TO_XYZ / WHITE[:, None]))
    # f of CIELAB: the cube root, and below the knee its tangent.
    knee, slope = (6 / 29) ** 3, 1 / (3 * (6 / 29) ** 2)
    f = math.cbrt(math.max(xyz, knee)) + slope * (math.min(xyz, knee) - knee)
    to_lab = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]])
    offset = np.array([-16, 0, 0])
    lab = fn.coord_transform(f, M=flat(to_lab / std[:, None]), T=flat((offset - mean) / std))
    return lab if wanted == types.FLOAT else fn.cast(lab, dtype=wanted)


def looked_up(image: Node, table: NDArray[Any]) -> Node:
    return fn.lookup_table(image, keys=list(range(len(table))), values=flat(table), dtype=types.FLOAT)


def flat(array: NDArray[Any]) -> list[float]:
    values: list[float] = array.astype(np.float64).ravel().tolist()
    return values
