"""Overlays for pictures of any shape."""

from pathlib import Path

import pytest
from PIL import Image

from melfast.predict.overlay import inspect_image


@pytest.mark.parametrize(("width", "height"), [(8, 1200), (1, 5000), (5000, 1), (1, 1), (600, 450)])
def test_extreme_shapes(tmp_path: Path, width: int, height: int) -> None:
    Image.new("RGB", (width, height), "tan").save(tmp_path / "a.png")
    inspect_image(tmp_path / "a.png").draw(tmp_path / "look.jpg", 0.3, False)
    with Image.open(tmp_path / "look.jpg") as picture:
        assert picture.size[0] >= 512
        assert picture.size[1] <= 2048 + 26
