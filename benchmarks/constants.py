"""Constants of the scaling plan: our measurements, and published figures for what we could not measure.

Each has a unit, a source and a range; the range of a measurement is its interquartile range.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Constant:
    """A number, its plausible range and its source."""

    value: float
    low: float
    high: float
    unit: str
    source: str


def published(value: float, unit: str, source: str) -> Constant:
    """A figure from a data sheet, without a range."""
    return Constant(value, value, value, unit, source)


H100 = "https://glennklockwood.com/garden/processors/h100, after NVIDIA's white paper"
DGX = (
    "DGX H100 in https://docs.nvidia.com/dgx-basepod/reference-architecture-infrastructure-"
    "foundation-enterprise-ai/latest/core-components.html"
)
CONVNEXT = "https://github.com/facebookresearch/ConvNeXt, table of models"
BY_A100 = (
    "our guess for the H100. Published: 575 images/s on an A100 in full precision "
    "(https://github.com/sail-sg/inceptionnext), 15.5 TFLOP/s, 5 % of its bf16 peak of 312; at 384 "
    "px 282 images/s on an RTX 3090 in mixed precision (timm, results/benchmark-train-amp-nhwc-"
    "pt112-cu113-rtx3090.csv), 22 TFLOP/s"
)

# Not measured by us.
PUBLIC: dict[str, Constant] = {
    "bf16 peak of an H100": published(989.4e12, "FLOP/s, dense", H100),
    "share of the peak in training": Constant(0.10, 0.05, 0.20, "", BY_A100),
    "memory bandwidth of an H100": published(3.35e12, "bytes/s", H100),
    "multiply-adds of ConvNeXt-T at 224 px": published(4.5e9, "an image, forward", CONVNEXT),
    "parameters of ConvNeXt-T": published(28e6, "", CONVNEXT),
    "activations of ConvNeXt-T at 224 px": published(
        13.5e6, "an image", "timm's card of convnext_tiny.fb_in22k, Activations"
    ),
    "JPEG pixels by an A100's decoder": Constant(
        551 * 676 / 127.6548e-6,
        0.5 * 551 * 676 / 127.6548e-6,
        2 * 551 * 676 / 127.6548e-6,
        "pixels/s",
        "https://github.com/pytorch/vision/pull/8496: 1000 images of 551x676 on the average in "
        "127.65 ms on one A100; taken for the H100's, half to twice of it",
    ),
    "copy to the GPU": Constant(
        0.8 * 64e9,
        0.4 * 64e9,
        0.9 * 64e9,
        "bytes/s",
        f"PCIe 5.0 x16, 128 GB/s both ways together ({H100}); 80 % (40 to 90 %) of 64 is a guess",
    ),
    "NVLink of an H100, one way": Constant(
        380e9,
        190e9,
        450e9,
        "bytes/s",
        "https://github.com/NVIDIA/nccl/issues/1264: 380 GB/s measured of 450; half of it is the low guess",
    ),
    "InfiniBand ports of a node": published(8, "ports of 400 Gb/s", DGX),
    "InfiniBand, one port": Constant(
        47e9,
        27e9,
        48e9,
        "bytes/s",
        "https://github.com/NVIDIA/nccl-tests/issues/290: 46 to 48 GB/s to be expected of NCCL; 27 "
        "measured where all was not well (https://github.com/NVIDIA/nccl/issues/2409)",
    ),
    "latency of an all-reduce a doubling of ranks": Constant(20e-6, 10e-6, 60e-6, "s", "a guess"),
    "share of the all-reduce behind the backward pass": Constant(0.5, 0.0, 0.9, "", "a guess"),
    "spread of a GPU's step": Constant(0.02, 0.01, 0.05, "deviation / mean", "a guess"),
    "cores of a node": published(112, "cores", f"two Xeon 8480C ({DGX})"),
    "speed of such a core": Constant(
        0.8, 0.6, 1.0, "of the core measured here", "a guess: all cores busy, 2.0 GHz base clock"
    ),
    "drives of a node": published(8, "drives", f"eight U.2 NVMe drives ({DGX})"),
    "sequential reads of a drive": Constant(
        0.5 * 6.8e9,
        0.25 * 6.8e9,
        0.8 * 6.8e9,
        "bytes/s",
        "Micron 7450, 6.8 GB/s (https://servethehome.com/?p=59563); half (a quarter to 80 %) for "
        "files of 50 kB to 1 MB is a guess",
    ),
    "requests to an object store a prefix": published(
        5500,
        "requests/s",
        "Amazon S3, https://aws.amazon.com/premiumsupport/knowledge-center/s3-object-key-naming-pattern/",
    ),
}


@dataclass(frozen=True)
class Results:
    """A file of benchmarks/run.py: rates and measurements by suite and title."""

    name: str
    record: dict[str, Any]

    @classmethod
    def read(cls, name: str, folder: Path = RESULTS) -> "Results":
        return cls(name, json.loads((folder / name).read_text()))

    @property
    def machine(self) -> tuple[Any, ...]:
        """The machine; figures of different machines are not comparable."""
        return tuple(self.record["hardware"][key] for key in ("cpu", "cores", "isa"))

    @property
    def cores(self) -> int:
        return int(self.record["hardware"]["cores"])

    def rate(self, suite: str, title: str, contestant: str) -> Constant:
        """The rate in the comparison whose title starts like this.

        Raises:
            LookupError: there is not exactly one such comparison and contestant.
        """
        found = [
            line["rate"]
            for comparison in self.record["suites"][suite]["comparisons"]
            if comparison["title"].startswith(title)
            for line in comparison["contestants"]
            if line["name"] == contestant
        ]
        if len(found) != 1:
            raise LookupError(f"{self.name}: {len(found)} of {contestant!r} in {suite}: {title!r}")
        return Constant(
            found[0]["median"],
            found[0]["q1"],
            found[0]["q3"],
            "images/s",
            f"{self.name}, {suite}: {title}, {contestant}",
        )

    def measurement(self, suite: str, title: str) -> Constant:
        """A measurement; raises LookupError if it does not exist."""
        for found in self.record["suites"][suite]["measurements"]:
            if found["title"] == title:
                value = found["value"]
                source = f"{self.name}, {suite}"
                return Constant(value, value, value, found["unit"], source)
        raise LookupError(f"{self.name}: no {title!r} in {suite}")
