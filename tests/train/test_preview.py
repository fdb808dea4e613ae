"""Previews: the sheet of an epoch's images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from melfast.config.loading import Override
from melfast.config.schema import Config, load_config
from melfast.data.manifest import Manifest, read_manifest
from melfast.data.native import NativeLoader
from melfast.distributed import World
from melfast.io.contact_sheet import CAPTION_HEIGHT, THUMBNAIL_WIDTH
from melfast.io.errors import InputError
from melfast.prepare.synth import SynthSettings, synthesize
from melfast.train import preview
from melfast.train.data import labelled
from melfast.train.epochs import epoch_plan
from melfast.train.preview import Captions, draw_preview


def config_of(**settings: object) -> Config:
    overrides = [Override(key.replace("__", "."), value, "test") for key, value in settings.items()]
    return load_config(None, overrides)[0]


SMALL = {"preprocess__height": 24, "preprocess__width": 32, "train__batch_size": 8}


def test_the_pictures_are_those_that_are_trained_on(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[np.ndarray] = []
    monkeypatch.setattr(preview, "write_grid", lambda pictures, *_: drawn.extend(p for p, _ in pictures))
    manifest, config = read_manifest(tiny_data), config_of(**SMALL, preprocess__colour="cielab")
    assert draw_preview(manifest, config, tmp_path / "s.png", epoch=3, images=20) == (20, [])
    train = labelled(manifest.split("train"), "train")
    plan = epoch_plan(config, train.rows, 3, World())
    loader = NativeLoader(train.images, config.preprocess.resolve(), plan, dtype=np.uint8)
    wanted = np.concatenate([batch.images.copy() for batch in loader])
    np.testing.assert_array_equal(np.stack(drawn), wanted[:20])


def test_other_splits_are_shown_as_they_are(tiny_data: Path, tmp_path: Path) -> None:
    manifest = read_manifest(tiny_data)
    shown, bad = draw_preview(manifest, config_of(**SMALL), tmp_path / "s.png", split="test", images=30, columns=5)
    assert (shown, bad) == (24, [])
    with Image.open(tmp_path / "s.png") as sheet:
        cell = round(THUMBNAIL_WIDTH * 24 / 32) + CAPTION_HEIGHT
        assert sheet.size == (5 * THUMBNAIL_WIDTH, 5 * cell)
        first = sheet.convert("RGB").crop((2, 2, 238, 180)).resize((32, 24), Image.Resampling.BOX)
    with Image.open(manifest.split("test").image_paths[0]) as image:
        assert np.abs(np.asarray(first, float) - np.asarray(image, float)).mean() < 12


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("drawn")
    return synthesize(folder, SynthSettings(24, size=(96, 72)), workers=1)


def test_captions_say_class_group_and_ita(drawn: Manifest) -> None:
    always = dict.fromkeys(drawn.tone_scale.names, 1.0)
    settings = {"augment__skin_former": always, "augment__skin_former_ita": (-55.0, -50.0)}
    config = config_of(**SMALL, **settings)
    drawn = drawn.with_columns(
        split=["train"] * 24,
        **{name: [50, 12, 18][i] * np.ones(24) for i, name in enumerate(("skin_l", "skin_a"))},
        skin_b=np.full(24, 18.0),
    )
    plan = epoch_plan(config, labelled(drawn, "train").rows, 0, World())
    row = plan.index[0]
    kind = ("benign", "malignant")[drawn.targets[row]]
    ita = float(drawn.column("ita")[row])
    assert Captions(drawn, plan).of(0) == (f"{kind} dark ITA {ita:.0f}° to {plan.target_ita[0]:.0f}°")


def test_captions_of_what_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image_name,path,target\na,a.png,\nb,b.png,1\n")
    manifest = read_manifest(tmp_path / "m.csv")
    plan = preview.evaluation_plan(2, batch_size=1)
    assert [Captions(manifest, plan).of(i) for i in (0, 1)] == ["unlabelled", "malignant"]


def test_bad_images_are_left_out_and_named(tiny_data: Path, tmp_path: Path) -> None:
    manifest = read_manifest(tiny_data)
    paths = [str(path) for path in manifest.image_paths]
    paths[60] = str(tmp_path / "gone.png")
    manifest = manifest.with_columns(path=paths)
    shown, bad = draw_preview(manifest, config_of(**SMALL), tmp_path / "s.png", split="test")
    assert shown == 23
    assert [str(error) for error in bad] == [f"{tmp_path}/gone.png: no such file"]
    manifest = manifest.with_columns(path=[str(tmp_path / "gone.png")] * 80)
    with pytest.raises(InputError, match="no such file; none of 3 images can be shown"):
        draw_preview(manifest, config_of(**SMALL), tmp_path / "t.png", split="test", images=3)
    assert not (tmp_path / "t.png").exists()


def test_without_a_split_all_of_it_is_trained_on(tiny_data: Path, tmp_path: Path) -> None:
    manifest = read_manifest(tiny_data).with_columns(split=[""] * 80)
    assert draw_preview(manifest, config_of(**SMALL), tmp_path / "s.png", images=99)[0] == 80
    with pytest.raises(InputError, match="no image in split 'test'"):
        draw_preview(manifest, config_of(**SMALL), tmp_path / "s.png", split="test")
    with pytest.raises(InputError, match=r"s\.gif: expected a name that ends in"):
        draw_preview(manifest, config_of(**SMALL), tmp_path / "s.gif")
