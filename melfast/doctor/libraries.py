"""Probes that try each library briefly, and the two commands that depend on them."""

import importlib
import io
import os
import tempfile
import warnings
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from melfast.doctor.found import ProbeResult, named, require
from melfast.doctor.machine import GIB, cpu_info, nvidia_hardware

# Other distributions that provide the same modules.
STAND_INS = {"onnxruntime": "onnxruntime-gpu"}
# An ONNX file that computes y = -x, stored here so that prediction is tested without the onnx package.
NEGATION = bytes.fromhex(
    "08093a320a0b0a017812017922034e65671201675a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a001011"
)


def core() -> ProbeResult:
    """Runs the compiled core on a small image."""
    import numpy as np

    from melfast import core

    image = np.full((8, 8, 3), 90, np.uint8)
    out = np.empty((4, 4, 3), np.uint8)
    core.resize(image, out)
    require(bool((out == 90).all()), f"resize made {out[0, 0]} from a uniform image of 90")
    cpu, flags = cpu_info(Path("/proc/cpuinfo"))
    forced = os.environ.get("MELFAST_ISA")
    text = f"instruction set {core.isa()}{' by MELFAST_ISA' if forced else ''}; {cpu}"
    return ProbeResult(
        text + (f" with {' '.join(flags)}" if flags else ""),
        facts={"isa": core.isa(), "forced": forced or None, "cpu": cpu, "cpu_flags": flags},
    )


def packages() -> ProbeResult:
    """Checks the versions of the packages that pyproject.toml requires without extras."""
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in metadata.requires("melfast") or []]
    wanted = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = []
    for requirement in wanted:
        stand_in = STAND_INS.get(requirement.name, requirement.name)
        if version_of(requirement.name) is None and version_of(stand_in) is not None:
            requirement.name = stand_in
        version = version_of(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong.append((requirement, version))
    facts = {requirement.name: version_of(requirement.name) for requirement in wanted}
    if not wrong:
        return ProbeResult(f"all {len(wanted)} required packages, in supported versions", facts=facts)
    text = ", ".join(f"{r.name} {version or 'missing'}, expected {r.specifier or 'any'}" for r, version in wrong)
    names = " ".join(f"'{r.name}{r.specifier}'" for r, _ in wrong)
    return ProbeResult(text, f"pip install {names}", facts)


def version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def images() -> ProbeResult:
    """Encodes and decodes a JPEG and a PNG."""
    import numpy as np
    import PIL.Image
    import simplejpeg

    image = np.full((16, 16, 3), 90, np.uint8)
    decoded = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(image), "RGB")
    require(abs(int(decoded[0, 0, 0]) - 90) <= 2, f"simplejpeg made {decoded[0, 0]} of 90")
    PIL.Image.fromarray(image).save(buffer := io.BytesIO(), "PNG")
    require(PIL.Image.open(buffer).getpixel((3, 3)) == (90, 90, 90), "Pillow's PNG changed")
    found = {"simplejpeg": version_of("simplejpeg"), "pillow": PIL.__version__}
    return ProbeResult(named(found), facts=found)


def torch() -> ProbeResult:
    """Multiplies matrices on the CPU and on each GPU."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    require(float((torch.ones(8, 8) @ torch.ones(8, 8)).sum()) == 512, "8x8 product is wrong")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    facts: dict[str, Any] = {
        "version": torch.__version__,
        "cuda_build": torch.version.cuda,
        "cuda_available": available,
        "devices": [],
    }
    text = f"torch {torch.__version__} (built for {build})"
    if not available:
        reason = " ".join(str(caught[-1].message).split())[:160] if caught else "no CUDA device"
        fix = None
        if nvidia_hardware():
            fix = (
                "update the NVIDIA driver: https://www.nvidia.com/drivers"
                if torch.version.cuda
                else "pip install --force-reinstall torch torchvision"
            )
        return ProbeResult(f"{text}, on the CPU: {reason}", fix, facts)
    for index in range(torch.cuda.device_count()):
        ones = torch.ones(8, 8, device=f"cuda:{index}")
        require(float((ones @ ones).sum()) == 512, f"8x8 product on cuda:{index} is wrong")
        device = torch.cuda.get_device_properties(index)
        facts["devices"].append(
            {
                "name": device.name,
                "capability": f"{device.major}.{device.minor}",
                "memory_gib": device.total_memory / GIB,
            }
        )
    names = ", ".join(device["name"] for device in facts["devices"])
    facts["cudnn"] = torch.backends.cudnn.version()
    return ProbeResult(f"{text}, cuDNN {facts['cudnn']}, on {names}", facts=facts)


def models() -> ProbeResult:
    """Builds a backbone; timm needs a torchvision that matches torch."""
    import timm
    import torchvision

    count = len(timm.list_models())
    found = {"timm": timm.__version__, "torchvision": torchvision.__version__}
    return ProbeResult(f"{named(found)}, {count:,} architectures", facts={**found, "models": count})


def onnxruntime() -> ProbeResult:
    """Runs one operator with each provider, because a provider may fail silently."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    listed = [name for name in onnxruntime.get_available_providers() if not name.startswith("Azure")]
    working = []
    for provider in listed:
        with suppress(Exception):  # each provider fails in its own way
            session = onnxruntime.InferenceSession(NEGATION, options, providers=[provider])
            (out,) = session.run(None, {"x": np.ones(1, np.float32)})
            if session.get_providers()[0] == provider and out[0] == -1:
                working.append(provider)
    require("CPUExecutionProvider" in working, f"no session on the CPU; providers: {', '.join(listed)}")
    both = version_of("onnxruntime") and version_of("onnxruntime-gpu")
    facts = {"version": onnxruntime.__version__, "listed": listed, "working": working}
    idle = [name for name in listed if name not in working]
    text = f"onnxruntime {onnxruntime.__version__} with {', '.join(working)}"
    text += f"; does not work: {', '.join(idle)}" if idle else ""
    fix = None
    if nvidia_hardware() and "CUDAExecutionProvider" not in working:
        fix = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    if both:
        text += "; onnxruntime and onnxruntime-gpu share one folder"
        fix = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime" + (
            "-gpu" if nvidia_hardware() else ""
        )
    return ProbeResult(text, fix, facts)


def statistics() -> ProbeResult:
    """The libraries that compute reports; numba compiles when it is first used."""
    import fairlearn
    import fairlearn.metrics
    import numba
    import scipy
    import sklearn

    require(numba.njit(lambda number: number + 1)(1) == 2, "numba's 1 + 1 is not 2")
    found = {
        "numba": numba.__version__,
        "fairlearn": fairlearn.__version__,
        "scikit-learn": sklearn.__version__,
        "scipy": scipy.__version__,
    }
    return ProbeResult(named(found), facts=found)


def plots() -> ProbeResult:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    axes.plot([0, 1], [0, 1], label="P(malignant)")
    figure.savefig(io.BytesIO(), format="png")
    return ProbeResult(f"matplotlib {matplotlib.__version__}", facts={"matplotlib": matplotlib.__version__})


def dali() -> ProbeResult:
    """Runs a pipeline on the CPU."""
    import nvidia.dali as dali  # `from nvidia import dali` does not say what is missing

    @dali.pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def one() -> Any:
        return dali.fn.constant(idata=7)

    pipe = one()
    pipe.build()
    (out,) = pipe.run()
    require(out.as_array().ravel().tolist() == [7], "a pipeline's constant 7 changed")
    return ProbeResult(f"DALI {dali.__version__}", facts={"version": dali.__version__})


def tensorrt() -> ProbeResult:
    """TensorRT, or TensorRT-RTX; a builder shows whether engines can be built here."""
    from melfast.engines.tensorrt_builder import MODULES, make_logger

    for name in MODULES:
        try:
            trt = importlib.import_module(name)
            break
        except ModuleNotFoundError:
            continue
    else:
        raise ModuleNotFoundError(f"none of {', '.join(MODULES)}")
    logger = make_logger(trt)
    trt.Builder(logger)
    require(not logger.errors, " ".join(logger.errors))
    return ProbeResult(f"{name} {trt.__version__}", facts={"module": name, "version": trt.__version__})


def slurm() -> ProbeResult:
    import submitit

    return ProbeResult(f"submitit {submitit.__version__}", facts={"submitit": submitit.__version__})


def train() -> ProbeResult:
    """Imports everything that `melfast train` needs; reports what it would choose."""
    importlib.import_module("melfast.train.run")
    from melfast.config.schema import TrainConfig
    from melfast.data.feed import choose_loader
    from melfast.data.loader import available_cores
    from melfast.distributed import start_world

    settings = TrainConfig()
    with start_world(settings.device) as world:
        device = str(world.device)
    loader, why = choose_loader("auto", device.split(":")[0])
    facts = {"device": device, "precision": settings.precision, "loader": loader, "threads": available_cores()}
    return ProbeResult(
        f"device {device}, {settings.precision}, loader {loader} ({why}), {facts['threads']} threads", facts=facts
    )


def predict() -> ProbeResult:
    """Imports everything that `melfast predict` needs; reports what it would choose."""
    for module in ("melfast.predict.writer", "rich.progress"):
        importlib.import_module(module)
    from melfast.data.loader import available_cores
    from melfast.engines.backends import open_engine

    threads = available_cores()
    with tempfile.TemporaryDirectory() as folder:
        info = open_engine(_smallest_model(Path(folder, "model.onnx")), threads=1).info
    return ProbeResult(
        f"of an ONNX file: {info.backend}, {info.provider}, {threads} threads",
        facts={"backend": info.backend, "provider": info.provider, "threads": threads},
    )


def _smallest_model(path: Path) -> Path:
    """An ONNX file like those of `melfast export`: mean levels as logits, a fraction as P."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from melfast.data.preprocess import Preprocess
    from melfast.engines.base import INPUT, METADATA_KEY, OUTPUTS
    from melfast.models.record import ModelRecord

    record = ModelRecord("smallest", Preprocess(4, 4))
    nodes = [
        helper.make_node("Cast", [INPUT], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["levels", "axes"], ["means"], keepdims=0),
        helper.make_node("Gather", ["means", "two"], [OUTPUTS[1]], axis=1),
        helper.make_node("Softmax", [OUTPUTS[1]], ["shares"], axis=1),
        helper.make_node("Gather", ["shares", "one"], [OUTPUTS[0]], axis=1),
    ]
    constants = [
        numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in (("axes", [1, 2]), ("two", [0, 1]), ("one", 1))
    ]
    images = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["B", 4, 4, 3])
    answers = [
        helper.make_tensor_value_info(OUTPUTS[0], TensorProto.FLOAT, ["B"]),
        helper.make_tensor_value_info(OUTPUTS[1], TensorProto.FLOAT, ["B", 2]),
    ]
    graph = helper.make_graph(nodes, "smallest", [images], answers, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    helper.set_model_props(model, {METADATA_KEY: record.to_json()})
    onnx.save(model, path)
    return path
