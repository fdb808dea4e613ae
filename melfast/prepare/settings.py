"""The section `prepare` of a config: which steps `melfast prepare all` takes, and how."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from melfast.io.schema import checked, refused
from melfast.prepare.picture import COPY_SIDE
from melfast.skin.ita import Convention
from melfast.skin.masks import MaskMethod
from melfast.skin.tone import FitzpatrickMap, ToneGroups

StepName = Literal["check", "dedup", "masks", "ita", "resize", "split"]
# In their order.
STEPS: tuple[StepName, ...] = ("check", "dedup", "masks", "ita", "resize", "split")
_Share = Annotated[float, Field(ge=0, le=1)]


def _whole_split(split: tuple[float, ...]) -> tuple[float, ...]:
    """A validator of fractions."""
    if abs(sum(split) - 1) > 1e-6:  # 0.7 + 0.15 + 0.15 is not 1 in floating point
        raise refused("fractions that add up to 1", list(split))
    return split


Fractions = Annotated[tuple[_Share, _Share, _Share], AfterValidator(_whole_split)]


@checked()
class PrepareConfig:
    """Which steps prepare the images of a data set, and how; see `melfast prepare STEP --help`.

    Attributes:
        check, dedup, masks, ita, resize, split: whether to take the step. By default `melfast
            prepare all` takes all of them, and `melfast train` those that the run needs. What the
            data set has already stays.
        drop_copies: leave copies out, but one of each group, instead of marking them.
        mask_method: what to mask.
        masks_dir: folder of the masks; empty: masks-METHOD beside the output.
        convention: true ITA, or the published method's 8-bit numbers.
        tone_groups: scale of the skin-tone groups.
        fitzpatrick: the source of the map from ITA to Fitzpatrick type.
        min_quality: leave group and type empty where `ita_quality` is lower.
        size: shorter side of the working copies, pixels; smaller images keep theirs.
        quality: of their JPEGs.
        copies_dir: folder of the copies; empty: resized-SIZE beside the output.
        fractions: of the labelled images for train, valid and test. A training run splits by
            `data.split` and `data.split_seed` instead.
        seed: of the split.
    """

    check: bool | None = None
    dedup: bool | None = None
    masks: bool | None = None
    ita: bool | None = None
    resize: bool | None = None
    split: bool | None = None
    drop_copies: bool = False
    mask_method: MaskMethod = "lesion"
    masks_dir: str = ""
    convention: Convention = "cielab"
    tone_groups: ToneGroups = "six"
    fitzpatrick: FitzpatrickMap = "kinyanjui_groh"
    min_quality: _Share = 0.0
    size: Annotated[int, Field(ge=8)] = COPY_SIDE
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    copies_dir: str = ""
    fractions: Fractions = (0.7, 0.15, 0.15)
    seed: int = 0
