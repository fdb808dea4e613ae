"""Write a classifier as a model repository for NVIDIA's Triton Inference Server.

DIR/client.py                   an example of a client
DIR/melfast/config.pbtxt        inputs, outputs, batching, threshold and ModelRecord
DIR/melfast/labels.txt          meaning of each logit
DIR/melfast/1/model.onnx        or model.plan

tritonserver --model-repository DIR
"""

import json
from pathlib import Path
from typing import Literal

from melfast.engines.base import GROUP, INPUT, METADATA_KEY, OUTPUTS
from melfast.io.words import check_words
from melfast.models.record import ModelRecord

Runtime = Literal["onnx", "tensorrt"]
NAME = "melfast"
BACKENDS = {"onnx": ("onnxruntime", "model.onnx"), "tensorrt": ("tensorrt", "model.plan")}
MAX_BATCH = 64

# [1] and reshape, because Triton has no output of shape [batch].
CONFIG = """\
name: "{name}"
backend: "{backend}"
default_model_filename: "{file}"
max_batch_size: {max_batch}
input [
  {{ name: "{input}" data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ] }}{group}
]
output [
  {{ name: "{probability}" data_type: TYPE_FP32 dims: [ 1 ] reshape {{ shape: [ ] }} }},
  {{ name: "{logits}" data_type: TYPE_FP32 dims: [ {num_logits} ] label_filename: "labels.txt" }}
]
dynamic_batching {{ max_queue_delay_microseconds: 1000 }}
parameters {{ key: "threshold" value {{ string_value: {threshold} }} }}
parameters {{ key: "{key}" value {{ string_value: {record} }} }}
"""

GROUP_INPUT = """,
  {{ name: "{group}" data_type: TYPE_INT64 dims: [ 1 ] reshape {{ shape: [ ] }} }}"""

CLIENT = '''\
"""P({malignant}) of images by a Triton server: python client.py photo.jpg ...

pip install numpy pillow tritonclient[grpc]
"""

import argparse

import numpy as np
import tritonclient.grpc as triton
from PIL import Image, ImageOps

HEIGHT, WIDTH = {height}, {width}
THRESHOLDS = {thresholds}

parser = argparse.ArgumentParser()
parser.add_argument("images", nargs="+")
parser.add_argument("--url", default="localhost:8001")
{argument}arguments = parser.parse_args()

client = triton.InferenceServerClient(arguments.url)
for file in arguments.images:
    image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    image = image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    pixels = triton.InferInput("{input}", [1, HEIGHT, WIDTH, 3], "UINT8")
    pixels.set_data_from_numpy(np.asarray(image)[None])
{feed}    probability = client.infer("{name}", [pixels{also}]).as_numpy("{probability}").item()
    print(f"{{file}},{{probability:.6f}},{{int(probability >= THRESHOLDS[{group}])}}")
'''


CLIENT_ARGUMENT = """\
parser.add_argument("--group", type=int, default=-1, help="tone group: {groups}; -1: unknown")
"""
CLIENT_FEED = """\
    group = triton.InferInput("{group}", [1, 1], "INT64")
    group.set_data_from_numpy(np.array([[arguments.group]]))
"""


@check_words
def lay_out(record: ModelRecord, folder: Path, runtime: Runtime, labels: list[str]) -> Path:
    """Writes the repository except for the model.

    Args:
        labels: meaning of each logit.
    Returns:
        The path to write the model to.
    """
    backend, file = BACKENDS[runtime]
    version = folder / NAME / "1"
    version.mkdir(parents=True)
    size = record.preprocess
    probability, logits = OUTPUTS
    # The record on one line; protobuf text format reads the escapes of JSON the same way.
    one_line = json.dumps(json.loads(record.to_json()))
    takes, common = record.takes_group, 0.5 if record.threshold is None else record.threshold
    asks = takes or bool(record.group_thresholds)
    names = ", ".join(f"{i} {name}" for i, name in enumerate(record.groups))
    config = CONFIG.format(
        group=GROUP_INPUT.format(group=GROUP) if takes else "",
        name=NAME,
        backend=backend,
        file=file,
        max_batch=MAX_BATCH,
        input=INPUT,
        height=size.height,
        width=size.width,
        probability=probability,
        logits=logits,
        num_logits=record.num_logits,
        key=METADATA_KEY,
        record=json.dumps(one_line),
        threshold=json.dumps("none" if record.threshold is None else repr(record.threshold)),
    )
    client = CLIENT.format(
        argument=CLIENT_ARGUMENT.format(groups=names) * asks,
        feed=CLIENT_FEED.format(group=GROUP) * takes,
        also=", group" * takes,
        malignant=record.classes[-1],
        height=size.height,
        width=size.width,
        name=NAME,
        # Thresholds of the tone groups; the last one, for -1, is the common one.
        thresholds=[*record.group_thresholds, common],
        group="arguments.group" if record.group_thresholds else -1,
        input=INPUT,
        probability=probability,
    )
    (folder / NAME / "config.pbtxt").write_text(config, encoding="utf-8")
    (folder / NAME / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    (folder / "client.py").write_text(client, encoding="utf-8")
    return version / file
