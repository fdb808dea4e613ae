"""Every instruction set gives the same bits, and MELFAST_ISA chooses among them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from melfast import core

ALL = ("baseline", "avx2", "avx512")

# Prints a digest of the results of the core for images of many sizes.
SCRIPT = """
import hashlib
import numpy as np
from melfast import core

rng = np.random.default_rng(0)
digest = hashlib.sha256()
for trial in range(150):
    in_height, in_width, height, width = np.exp(rng.uniform(0, 5, 4)).astype(int)
    if trial % 10 == 0:
        in_height, in_width, height, width = in_height * 20, in_width * 5, 3, 2
    image = rng.integers(0, 256, (in_height, in_width, 3), dtype=np.uint8)
    affine = np.eye(2, 3) + rng.normal(0, 0.3, (2, 3))
    mean, std = rng.normal(0, 1, 3), np.exp(rng.uniform(-9, 9, 3))
    out = np.empty((height, width, 3), np.uint8)
    core.resize(image, out)
    digest.update(out)
    out = np.empty_like(image)
    core.warp_affine(image, affine, out)
    digest.update(out)
    digest.update(core.srgb_to_lab(image))
    lab = rng.uniform((-10, -130, -130), (110, 130, 130), image.shape).astype(np.float32)
    digest.update(core.lab_to_srgb(lab))
    weights, out = image[..., 1].copy(), np.empty_like(image)
    core.shift_lab(image, weights, *rng.normal(0, 20, 3), out)
    digest.update(out)
    core.apply_curves(image, weights, rng.integers(0, 256, (3, 256), dtype=np.uint8), out)
    digest.update(out)
    digest.update(core.published_mask(image))
    smooth = np.sort(np.sort(image, axis=0), axis=1) // 2 + image // 8
    digest.update(core.published_mask(smooth))
    digest.update(core.skin_regions(image))
    digest.update(core.skin_regions(smooth))
    for colour in ("rgb", "cielab"):
        for dtype in (np.uint8, np.float16, np.float32):
            out = np.empty((height, width, 3), dtype)
            core.prepare(image, affine, out, colour, mean, std)
            digest.update(out)
    core.prepare(
        image, affine, out, "rgb", mean, std, working=(height + 3, 2 * width),
        mask=np.full((height, width), 90, np.uint8), masked=True, fill=(1, 2, 3),
        curves=rng.integers(0, 256, (3, 256), dtype=np.uint8), jitter=rng.normal(0.3, 0.3, (3, 4)),
        erase=(0, 0, height // 2, width // 2),
    )
    digest.update(out)
    colours = rng.normal(0, 20, (rng.integers(0, 300), 3)).astype(np.float32)
    inertias, centres, counts = core.cluster_colours(colours, seed=trial, attempts=2)
    shifted = core.mean_shift(colours, np.zeros((1, 3), np.float32), 20.0)
    for found in (inertias, *centres, *counts, shifted):
        digest.update(found)
print(core.isa(), digest.hexdigest())
"""


def run(isa: str | None, script: str = SCRIPT) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "MELFAST_ISA"}
    if isa is not None:
        environment["MELFAST_ISA"] = isa
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def has(isa: str) -> bool:
    """Features of the processor according to the operating system, not the core."""
    flags = {"avx2": {"avx2", "fma", "f16c"}, "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"}}
    found = Path("/proc/cpuinfo").read_text().split()
    return flags.get(isa, set()) <= set(found)


@pytest.fixture(scope="module")
def baseline() -> str:
    result = run("baseline")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] == "baseline"
    return result.stdout.split()[1]


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the processor is asked on Linux only")
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_gives_the_same_bits(isa, baseline):
    result = run(isa)
    if not has(isa):
        # Nothing to compare on this machine but the refusal.
        best = "avx2" if has("avx2") and os.uname().machine == "x86_64" else "baseline"
        assert result.returncode != 0
        message = result.stderr.strip().splitlines()[-1]
        known = f"MELFAST_ISA is '{isa}', but the best this machine has is '{best}'"
        foreign = f"MELFAST_ISA must be one of baseline, got '{isa}'"
        assert message in (f"ImportError: {known}", f"ImportError: {foreign}")
        pytest.skip(f"this processor has no {isa}: only its refusal was tested")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [isa, baseline]


def test_the_best_is_the_default():
    result = run(None, "from melfast import core; print(core.isa())")
    best = [isa for isa in ALL if has(isa)][-1] if Path("/proc/cpuinfo").exists() else core.isa()
    assert result.stdout.strip() == (best if os.uname().machine == "x86_64" else "baseline")


def test_empty_is_unset():
    assert run("", "from melfast import core").returncode == 0


def test_an_unknown_name_is_refused():
    result = run("sse9", "from melfast import core")
    assert result.returncode != 0
    message = result.stderr.strip().splitlines()[-1]
    names = "baseline, avx2, avx512" if os.uname().machine == "x86_64" else "baseline"
    assert message == f"ImportError: MELFAST_ISA must be one of {names}, got 'sse9'"
