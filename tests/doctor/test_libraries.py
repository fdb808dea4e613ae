"""Probes of broken libraries, in this process with stand-ins."""

import sys
import warnings
from importlib import metadata
from types import SimpleNamespace

import pytest

from melfast.doctor import libraries


def versions(monkeypatch: pytest.MonkeyPatch, wanted: list[str], installed: dict[str, str]) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(metadata, "version", version)


def test_packages_missing_old_and_of_extras(monkeypatch):
    wanted = ["numpy>=2.2", "kneed>=0.8.5", "torchvision", "submitit>=1.5; extra == 'slurm'"]
    versions(monkeypatch, wanted, {"numpy": "1.26.4"})
    found = libraries.packages()
    assert found.text == (
        "numpy 1.26.4, expected >=2.2, kneed missing, expected >=0.8.5, torchvision missing, expected any"
    )
    assert found.fix == "pip install 'numpy>=2.2' 'kneed>=0.8.5' 'torchvision'"
    assert found.facts == {"numpy": "1.26.4", "kneed": None, "torchvision": None}


def test_packages_all_there(monkeypatch):
    versions(monkeypatch, ["numpy>=2.2", "torch>=2.9"], {"numpy": "2.2", "torch": "2.15.0a1+cu132"})
    found = libraries.packages()
    assert (found.text, found.fix) == ("all 2 required packages, in supported versions", None)


def test_onnxruntime_gpu_stands_in_for_onnxruntime(monkeypatch):
    versions(monkeypatch, ["onnxruntime>=1.23"], {"onnxruntime-gpu": "1.31.1"})
    assert libraries.packages().fix is None
    versions(monkeypatch, ["onnxruntime>=1.23"], {"onnxruntime-gpu": "1.20"})
    assert libraries.packages().fix == "pip install 'onnxruntime-gpu>=1.23'"


def test_two_onnxruntimes_in_one_folder(monkeypatch):
    versions(monkeypatch, [], {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"})
    monkeypatch.setattr(libraries, "nvidia_hardware", lambda: False)
    found = libraries.onnxruntime()
    assert found.text.endswith("; onnxruntime and onnxruntime-gpu share one folder")
    remove = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install "
    assert found.fix == remove + "onnxruntime"


def test_a_gpu_that_onnxruntime_cannot_use(monkeypatch):
    import onnxruntime

    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(libraries, "nvidia_hardware", lambda: True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the provider that is only pretended
        found = libraries.onnxruntime()
    assert "with CPUExecutionProvider; does not work: CUDAExecutionProvider" in found.text
    remove = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install "
    assert found.fix == remove + "onnxruntime-gpu"


def test_the_onnx_file_is_the_negation():
    import onnx

    model = onnx.load_from_string(libraries.NEGATION)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Neg"]


def test_torch_on_the_cpu_beside_a_gpu_says_why(monkeypatch):
    import torch

    def unavailable() -> bool:
        warnings.warn("The NVIDIA driver on your system\nis too old", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    monkeypatch.setattr(libraries, "nvidia_hardware", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    found = libraries.torch()
    assert found.text.endswith(", on the CPU: The NVIDIA driver on your system is too old")
    assert found.fix == "update the NVIDIA driver: https://www.nvidia.com/drivers"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "(built for CPU only)" in libraries.torch().text
    assert libraries.torch().fix == "pip install --force-reinstall torch torchvision"
    monkeypatch.setattr(libraries, "nvidia_hardware", lambda: False)
    assert libraries.torch().fix is None


@pytest.mark.gpu
def test_torch_on_a_gpu():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = libraries.torch()
    assert found.facts["devices"][0]["memory_gib"] > 1
    assert found.facts["devices"][0]["name"] in found.text


def test_no_tensorrt_of_any_name(monkeypatch):
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r"^none of tensorrt, tensorrt_rtx"):
        libraries.tensorrt()


def test_a_tensorrt_that_complains_is_broken(monkeypatch):
    from melfast.engines import tensorrt_builder

    logger = SimpleNamespace(errors=["CUDA initialization failure with error: 35"])
    monkeypatch.setattr(tensorrt_builder, "make_logger", lambda trt: logger)
    fake = SimpleNamespace(Builder=lambda logger: None, __version__="11.4")
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    with pytest.raises(RuntimeError, match=r"^CUDA initialization failure with error: 35$"):
        libraries.tensorrt()
