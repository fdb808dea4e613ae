"""Suite skin: colour conversion and the skin-former, on one core."""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Contestant, Run, suite
from melfast import core

HEIGHT, WIDTH = 1024, 1024
# Tolerances of the checks: for melfast, and for a peer that computes the same.
LAB_ERROR, PEER_ERROR = 0.001, 0.5
FORMER_IMAGES = 12
FORMER_SIZE = (224, 224)
FORMER_TARGETS = (-20.0, 30.0)

Image = NDArray[np.uint8]
Lab = NDArray[np.float32]


@suite("skin")
def skin(run: Run) -> None:
    """sRGB to CIELAB and back, and the skin-former; one core each."""
    set_one_thread()
    run.note("one core for each contestant, whatever --threads says")
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    to_lab(run, image)
    to_srgb(run, image)
    former(run)


def set_one_thread() -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def to_lab(run: Run, image: Image) -> None:
    """sRGB8 to CIELAB in float32."""
    import cv2
    import kornia
    import torch
    from skimage.color import rgb2lab

    def opencv() -> Lab:
        lab: Lab = cv2.cvtColor(image * np.float32(1 / 255), cv2.COLOR_RGB2LAB)
        return lab

    def with_kornia() -> Lab:
        planes = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        lab: Lab = kornia.color.rgb_to_lab(planes)[0].permute(1, 2, 0).numpy()
        return lab

    contestants: dict[str, tuple[Callable[[], NDArray[np.floating]], float | None]] = {
        "melfast": (lambda: core.srgb_to_lab(image), None),
        "scikit-image rgb2lab": (lambda: rgb2lab(image), 5),
        "OpenCV float32": (opencv, 1.5),
        "kornia rgb_to_lab": (with_kornia, 3),
    }
    exact = rgb2lab(image.astype(np.float64) / 255)
    for name, (convert, _) in contestants.items():
        error = float(np.abs(convert() - exact).max())
        limit = LAB_ERROR if name == "melfast" else PEER_ERROR
        run.check(f"{name}: largest difference to float64", error, at_most=limit)
    run.compare(
        f"sRGB8 to CIELAB float32, {HEIGHT}x{WIDTH}",
        "pixels/s",
        [Contestant(name, pixels(f), target) for name, (f, target) in contestants.items()],
    )


def to_srgb(run: Run, image: Image) -> None:
    """CIELAB in float32 to sRGB8."""
    import cv2
    import kornia
    import torch
    from skimage.color import lab2rgb

    lab = core.srgb_to_lab(image)

    def opencv() -> Image:
        return rounded(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))

    def scikit_image() -> Image:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Z may be slightly below 0
            return rounded(lab2rgb(lab))

    def with_kornia() -> Image:
        rgb = kornia.color.lab_to_rgb(torch.from_numpy(lab).permute(2, 0, 1)[None])
        return rounded(rgb[0].permute(1, 2, 0).numpy())

    contestants: dict[str, Callable[[], Image]] = {
        "melfast": lambda: core.lab_to_srgb(lab),
        "scikit-image lab2rgb": scikit_image,
        "OpenCV float32": opencv,
        "kornia lab_to_rgb": with_kornia,
    }
    for name, convert in contestants.items():
        error = np.abs(convert().astype(int) - image).max()
        run.check(f"{name}: levels off, there and back", error, at_most=int(name != "melfast"))
    run.compare(
        f"CIELAB float32 to sRGB8, {HEIGHT}x{WIDTH}",
        "pixels/s",
        [Contestant(name, pixels(convert)) for name, convert in contestants.items()],
    )


def rounded(rgb: NDArray[np.floating]) -> Image:
    """Converts 0..1 to levels."""
    return np.rint(rgb * 255).astype(np.uint8)


def pixels(convert: Callable[[], object]) -> Callable[[], int]:
    def run() -> int:
        convert()
        return HEIGHT * WIDTH

    return run


def former(run: Run) -> None:
    """Moves synthetic images to several targets, and times the pixel work alone."""
    from melfast.prepare.synth import draw_sample
    from melfast.skin.curves import level_curves, light_gains
    from melfast.skin.former import move_skin

    images = [draw_sample(0, index, FORMER_SIZE).image for index in range(FORMER_IMAGES)]
    curves = level_curves(light_gains([(68, 11, 15)], [(40, 12, 14)]))[0]
    weights = np.full(FORMER_SIZE[::-1], 200, np.uint8)
    out = np.empty_like(images[0])

    def every(move: Callable[[Image], object]) -> Callable[[], int]:
        return lambda: len([move(image) for image in images])

    def exact(image: Image) -> list[float]:
        return [move_skin(image, t).tone.ita_deg - t for t in FORMER_TARGETS]

    missed = np.abs([exact(image) for image in images])
    run.check("part of targets reached within 2 degrees", (missed <= 2).mean(), at_least=0.95)
    width, height = FORMER_SIZE
    run.compare(
        f"skin-former, {height}x{width}",
        "images/s",
        [
            Contestant("exact, all of it", every(lambda i: move_skin(i, FORMER_TARGETS[0]))),
            Contestant("published, all of it", every(lambda i: move_skin(i, FORMER_TARGETS[0], method="published"))),
            Contestant("curves alone", every(lambda i: core.apply_curves(i, weights, curves, out))),
            Contestant("CIELAB shift alone", every(lambda i: core.shift_lab(i, weights, -5, 0, 9, out))),
        ],
    )
