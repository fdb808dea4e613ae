"""Fixtures that every test file may use."""

import io
import os
import signal
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and child processes would inherit it: those of the tests
    # of Ctrl-C would not hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, which may not be distributed, so a clone does not have them."""
    default = Path(__file__).parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("MELFAST_TEST_DATA", default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder} (MELFAST_TEST_DATA)")
    return folder


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_bytes(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand, for what Pillow cannot write; `rows` with their filter bytes."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, body) for name, body in chunks)


def skin_rgb(height: int = 24, width: int = 32) -> np.ndarray:
    """A small smooth picture whose four corners differ; uint8 [H, W, 3]."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([230 - 60 * x, 170 - 90 * y, 140 - 50 * x * y], -1).astype(np.uint8)


@pytest.fixture
def bad_images(tmp_path: Path) -> dict[str, Path]:
    """Unusable files and paths under tmp_path/bad, by what is wrong with them."""
    folder = tmp_path / "bad"
    folder.mkdir()
    picture = Image.fromarray(skin_rgb())

    def encoded(kind: str, mode: str = "RGB") -> bytes:
        buffer = io.BytesIO()
        picture.convert(mode).save(buffer, kind)
        return buffer.getvalue()

    jpeg, png = encoded("JPEG"), encoded("PNG")
    sizes = jpeg.index(b"\xff\xc0") + 5  # height and width in the start-of-frame segment
    transparent = picture.convert("RGBA")
    transparent.putpixel((3, 5), (0, 0, 0, 254))
    transparent.save(folder / "transparent.png")
    contents = {
        "empty.jpg": b"",
        "zeros.jpg": bytes(5000),
        "truncated.jpg": jpeg[: (jpeg.index(b"\xff\xda") + len(jpeg)) // 2],
        "header.jpg": jpeg[:40],
        "truncated.png": png[: len(png) * 2 // 3],
        "header.png": png[:20],
        "html.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
        "text.png": b"not found\n",
        "gif.jpg": encoded("GIF"),
        "noise.jpg": bytes(range(255, 0, -1)),
        "cmyk.jpg": encoded("JPEG", "CMYK"),
        "grey.jpg": encoded("JPEG", "L"),
        "grey.png": encoded("PNG", "L"),
        "sixteen.png": png_bytes(2, 1, 16, 2, bytes(13)),
        "huge.jpg": jpeg[:sizes] + struct.pack(">HH", 30000, 30000) + jpeg[sizes + 4 :],
        "huge.png": png_bytes(30000, 30000, 8, 2, b""),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder.jpg").mkdir()
    names = [*contents, "transparent.png", "folder.jpg", "missing.jpg"]
    return {name: folder / name for name in names}


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 80 images of 32x24, malignant ones with a dark centre; do not change it.

    32 images in train, 24 each in valid and test, half of each malignant; two tone groups, and a
    patient an image.
    """
    folder = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    lines = ["image_name,path,target,patient_id,split,group,group_str"]
    for i in range(80):
        target, group = i % 2, i // 2 % 2
        split = "train" if i < 32 else "valid" if i < 56 else "test"
        pixels = rng.normal((200 - 60 * group, 160, 140), 25, (24, 32, 3))
        # Images 4, 9, 14, ... look like the other class: no model gets every one right.
        if target != (i % 5 == 4):
            pixels[6:18, 8:24] -= 70
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"t{i:02d}.png")
        name = ("light", "dark")[group]
        lines.append(f"t{i:02d},t{i:02d}.png,{target},p{i},{split},{group},{name}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


@pytest.fixture(scope="session")
def red_model() -> Callable[..., Path]:
    """Writes an ONNX file like those of `melfast export`, whose probability is mean red / 255.

    Input 6 x 4 (width x height); logits are the means of green and of red, 0..255. Keywords change
    the model record; without them the threshold is 0.25.
    """
    import onnx
    from onnx import TensorProto, helper

    from melfast.data.preprocess import Preprocess
    from melfast.models.record import ModelRecord

    def write(path: Path, **changes: object) -> Path:
        size = Preprocess(4, 6)
        record = ModelRecord("red", size, threshold=0.25, threshold_rule="youden")
        record = record.replace(**changes)
        nodes = [
            helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["means"], keepdims=0),
            helper.make_node("Gather", ["means", "green_red"], ["logits"], axis=1),
            helper.make_node("Gather", ["means", "red"], ["mean_red"], axis=1),
            helper.make_node("Div", ["mean_red", "white"], ["probability"]),
        ]
        constants = [
            onnx.numpy_helper.from_array(np.array(value, dtype), name)
            for name, value, dtype in (
                ("axes", [1, 2], np.int64),
                ("green_red", [1, 0], np.int64),
                ("red", 0, np.int64),
                ("white", 255, np.float32),
            )
        ]
        shape = ["batch", size.height, size.width, 3]
        graph = helper.make_graph(
            nodes,
            "red",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
            [
                helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch"]),
                helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2]),
            ],
            constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        helper.set_model_props(model, {"melfast": record.to_json()})
        onnx.save(model, path)
        return path

    return write
