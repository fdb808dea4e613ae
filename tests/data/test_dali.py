"""DaliLoader on the CPU: the records carried out as the native executor and the reference do."""

import numpy as np
import pytest

from melfast.data.dali import DaliLoader
from melfast.data.native import NativeLoader
from melfast.preprocess import Preprocess
from tests.data.conftest import KINDS, Pictures
from tests.data.reference import levels_apart, reference

COLOURS = {
    "rgb": Preprocess(48, 64),
    "cielab": Preprocess.for_colour(48, 64, "cielab"),
}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", KINDS)
def test_from_the_same_pixels(kind: str, colour: str, drawn_pngs: Pictures) -> None:
    preprocess = COLOURS[colour]
    plan = drawn_pngs.plan(KINDS[kind], preprocess)
    r = {}
    for cls in (DaliLoader, NativeLoader):
        loader = cls(drawn_pngs.paths, preprocess, plan, masks=drawn_pngs.masks, threads=2)
        r[cls] = np.concatenate([batch.images.copy() for batch in loader])
    images = r[DaliLoader]
    a, b = [], []
    for record, image in enumerate(images):
        row = plan.index[record]
        wanted = reference(drawn_pngs.paths[row], plan, record, preprocess, drawn_pngs.masks[row])
        a.append(levels_apart(image, wanted, preprocess))
        b.append(levels_apart(image, r[NativeLoader][record], preprocess))
    print(kind, colour, max(a), max(b))
    assert max(a) < 0.75
    assert max(b) < 0.75
