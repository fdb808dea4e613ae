"""Inspection: skin tone and lesion of a predicted image, and a picture that shows them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from melfast.io.files import atomic_path
from melfast.io.images import read_resized
from melfast.skin.ita import SkinTone, estimate_tone
from melfast.skin.masks import make_mask, working_size
from melfast.skin.tone import TONE_GROUPS, UNKNOWN_GROUP, ToneScale, classify

OUTLINE = (255, 225, 0)  # visible on skin of any tone and on lesions
SHOWN_WIDTH, CAPTION_HEIGHT, FONT_SIZE = 512, 26, 16  # pixels, the first at least
ENLARGED_HEIGHT = 2048  # pixels, at most


@dataclass(frozen=True)
class Inspection:
    """Skin tone and lesion of an image.

    Attributes:
        image: uint8 sRGB [h, w, 3], at the size at which skin and lesion are segmented.
        group: name of the tone group; '' if the tone is unknown.
    """

    image: NDArray[np.uint8]
    tone: SkinTone
    group: str

    @property
    def cells(self) -> list[str]:
        """Cells of the columns ita, ita_quality and group."""
        known = np.isfinite(self.tone.ita_deg)
        quality = f"{self.tone.quality:.3f}" if known else ""
        return [f"{self.tone.ita_deg:.4f}" if known else "", quality, self.group]

    def draw(self, path: Path, probability: float, malignant: bool) -> None:
        """Writes a JPEG: the image, the outline of the lesion, and the numbers below it.

        Raises:
            InputError: it cannot be written.
        """
        height, width = self.image.shape[:2]
        scale = max(1.0, min(SHOWN_WIDTH / width, ENLARGED_HEIGHT / height))
        height, width = round(height * scale), round(width * scale)
        shown = np.array(Image.fromarray(self.image).resize((width, height)))
        shown[outline(make_mask(self.image, "lesion", (height, width)) > 0)] = OUTLINE
        # The text needs room for any shape of the picture.
        picture = Image.new("RGB", (max(width, SHOWN_WIDTH), height + CAPTION_HEIGHT), "white")
        picture.paste(Image.fromarray(shown), (0, 0))
        ita = f"ITA {self.tone.ita_deg:.0f}°" if np.isfinite(self.tone.ita_deg) else "ITA unknown"
        called = "called malignant" if malignant else "called benign"
        words = f"P(malignant) {probability:.3f}, {called}; {ita} {self.group}"
        ImageDraw.Draw(picture).text((4, height + 3), words, "black", font_size=FONT_SIZE)
        with atomic_path(path) as temporary:
            picture.save(temporary, "JPEG", quality=90)


def inspect_image(path: Path, groups: tuple[str, ...] = ()) -> Inspection:
    """Reads an image and estimates its skin tone like `melfast prepare ita`.

    Args:
        groups: groups of the model; if they are those of a scale, `group` is on that scale.
    Raises:
        ImageError: as read_image.
    """
    image, _ = read_resized(path, working_size)
    tone = estimate_tone(image)
    scale = scale_of(groups)
    trusted = tone.ita_deg if tone.quality > 0 else np.nan
    (place,) = classify(np.array([trusted]), scale)
    return Inspection(image, tone, "" if place == UNKNOWN_GROUP else scale.names[place])


def scale_of(groups: tuple[str, ...]) -> ToneScale:
    """The scale with these group names; the six-group scale if there is none."""
    found = (scale for scale in TONE_GROUPS.values() if scale.names == groups)
    return next(found, TONE_GROUPS["six"])


def outline(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Border of a mask, two pixels wide, [H, W]."""
    core = inside.copy()
    for _ in range(2):
        smaller = core.copy()
        smaller[1:] &= core[:-1]
        smaller[:-1] &= core[1:]
        smaller[:, 1:] &= core[:, :-1]
        smaller[:, :-1] &= core[:, 1:]
        core = smaller
    return inside & ~core
