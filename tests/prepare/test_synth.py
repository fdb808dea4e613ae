import json
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from scipy import ndimage
from skimage.color import lab2rgb, rgb2lab
from sklearn.metrics import roc_auc_score

from melfast.data.manifest import read_manifest
from melfast.io.errors import InputError
from melfast.prepare.sources import import_source
from melfast.prepare.synth import SynthSample, SynthSettings, draw_sample, synthesize, write_sheet
from melfast.prepare.synth.cohort import make_case
from melfast.prepare.synth.colour import SkinColour, draw_skin_colour, lab_to_linear, linear_to_srgb
from melfast.prepare.synth.fields import lowpass, random_field
from melfast.skin.tone import TONE_GROUPS, classify

SIZE = (160, 120)
COUNT = 160


@pytest.fixture(scope="module")
def samples() -> list[SynthSample]:
    return [draw_sample(3, index, SIZE) for index in range(COUNT)]


def test_ita_by_hand() -> None:
    assert SkinColour(60.0, 10.0, 10.0).ita_deg == pytest.approx(45.0)
    assert SkinColour(50.0, 10.0, 10.0).ita_deg == 0.0
    assert SkinColour(40.0, 10.0, 10.0).ita_deg == pytest.approx(-45.0)


def test_skin_colour_has_the_ita_asked_for() -> None:
    rng = np.random.default_rng(0)
    for ita in np.linspace(-60, 75, 28):
        colour = draw_skin_colour(rng, float(ita), 2.0)
        assert colour.ita_deg == pytest.approx(ita, abs=1e-9)
        assert 25 < colour.l < 82
        rgb = lab2rgb([[(colour.l, colour.a, colour.b)]])
        assert 0.02 < rgb.min() < rgb.max() < 0.98


def test_colour_agrees_with_scikit_image() -> None:
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    lab = rgb2lab(rgb)
    planes = [lab[..., c].astype(np.float32) for c in range(3)]
    assert np.abs(linear_to_srgb(lab_to_linear(*planes)).astype(int) - rgb).max() <= 1


def test_field_is_the_same_at_any_resolution() -> None:
    small, large = (random_field(np.random.default_rng(5), (n, n), lowpass(0.3), 0.12) for n in (64, 256))
    assert abs(float(small.mean())) < 1e-5
    assert float(small.std()) == pytest.approx(1.0, abs=1e-5)
    assert np.abs(small - large[::4, ::4]).max() < 0.02


def test_true_ita_is_that_of_clean_skin(samples: list[SynthSample]) -> None:
    """In float64 scikit-image, over undisturbed pixels, with all shading and texture on them."""
    errors, shares = [], []
    for sample in samples:
        shares.append(sample.skin.mean())
        light, _, b = np.median(rgb2lab(sample.image)[sample.skin], axis=0)
        errors.append(abs(np.rad2deg(np.arctan2(light - 50, b)) - sample.ita_deg))
    assert max(errors) < 1.5
    assert min(shares) > 0.05
    assert np.median(shares) > 0.3
    assert np.std([s.image[s.skin].std() for s in samples]) > 0.5  # the skin is not flat


def test_ita_covers_the_human_range(samples: list[SynthSample]) -> None:
    ita = np.array([sample.ita_deg for sample in samples])
    assert -60 <= ita.min() < -45
    assert 65 < ita.max() <= 75
    groups = np.bincount(classify(ita, TONE_GROUPS["six"]), minlength=6)
    assert groups.min() >= 0.06 * COUNT


def test_mask_is_the_lesion(samples: list[SynthSample]) -> None:
    """One piece without holes; disjoint from clean skin; darker or bluer than the skin it is on."""
    darker = []
    for sample in samples:
        assert not (sample.mask & sample.skin).any()
        assert 0.005 < sample.mask.mean() < 0.7
        pieces, _ = ndimage.label(sample.mask)  # the frame may cut a tip off, sampling a thin neck
        assert np.bincount(pieces[sample.mask]).max() > 0.97 * sample.mask.sum()
        assert (ndimage.binary_fill_holes(sample.mask) ^ sample.mask).sum() < 0.01 * sample.mask.sum()
        if not (sample.artefacts.hair or sample.artefacts.bubbles or sample.artefacts.ruler):
            lab = rgb2lab(sample.image)
            inside, skin = (np.median(lab[m], axis=0) for m in (sample.mask, sample.skin))
            darker.append(inside[0] < skin[0] - 2)
    assert np.mean(darker) > 0.95


def test_mask_border_follows_the_picture() -> None:
    """Just inside differs from the skin, well outside does not: a shifted mask would fail."""
    for index in range(30):
        sample = draw_sample(8, index, SIZE)
        if any(vars(sample.artefacts).values()):
            continue
        lab = rgb2lab(sample.image)
        change = np.linalg.norm(lab - np.median(lab[sample.skin], axis=0), axis=-1)
        core = ndimage.binary_erosion(sample.mask, iterations=3)
        assert np.median(change[core]) > 2 * np.median(change[sample.skin])


def test_one_index_gives_one_image() -> None:
    one, two = draw_sample(4, 17, SIZE), draw_sample(4, 17, SIZE)
    assert (one.image == two.image).all()
    assert (one.mask == two.mask).all()
    assert one.colour == two.colour
    assert (one.image != draw_sample(4, 18, SIZE).image).any()
    assert (one.image != draw_sample(5, 17, SIZE).image).any()


@pytest.mark.parametrize("malignant", [0.0, 0.1, 0.3, 1.0])
def test_class_balance(malignant: float) -> None:
    cases = [make_case(0, index, malignant) for index in range(640)]
    target_of = {case.lesion: case.target for case in cases}
    assert len(target_of) == 400
    assert abs(sum(target_of.values()) - 400 * malignant) <= 1
    assert all(case.target == target_of[case.lesion] for case in cases)


def test_patients_and_lesions_repeat() -> None:
    cases = [make_case(0, index, 0.3) for index in range(640)]
    patients = {case.lesion: case.patient for case in cases}
    assert all(patients[case.lesion] == case.patient for case in cases)
    assert len({case.patient for case in cases}) == 200
    images_of_lesion = np.bincount([case.lesion for case in cases])
    assert (images_of_lesion > 1).mean() > 0.2


def test_no_simple_cue_tells_the_classes_apart() -> None:
    target, cues = [], []
    for index in range(320):
        sample = draw_sample(6, index, (96, 72))
        lab, mask = rgb2lab(sample.image), sample.mask
        edge = (mask ^ ndimage.binary_erosion(mask)).sum()
        target.append(sample.target)
        cues.append([mask.mean(), edge**2 / mask.sum(), *lab[mask].mean(0), *lab[mask].std(0)])
    aucs = [roc_auc_score(target, values) for values in np.array(cues).T]
    assert max(max(auc, 1 - auc) for auc in aucs) < 0.88
    assert max(aucs) > 0.6  # and yet they tell something


def settings(**changes: object) -> SynthSettings:
    return SynthSettings(**{"images": 12, "size": (96, 72), **changes})  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_folder_does_not_depend_on_workers(tmp_path: Path) -> None:
    done: list[None] = []
    synthesize(tmp_path / "a", settings(), workers=1, progress=lambda: done.append(None))
    synthesize(tmp_path / "b", settings(), workers=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(done) == 12
    synthesize(tmp_path / "c", settings(images=14), workers=1)
    short, long = contents(tmp_path / "a"), contents(tmp_path / "c")
    assert all(long[n] == short[n] for n in short if n.startswith(("images", "masks")))


def test_folder_round_trip(tmp_path: Path) -> None:
    manifest = synthesize(tmp_path / "d", settings(seed=2, groups="four"), workers=1)
    again = read_manifest(tmp_path / "d" / "labels.csv")
    assert again.table.equals(manifest.table[list(again.table)])
    assert list(again.table)[:5] == ["image_name", "path", "target", "patient_id", "lesion_id"]
    assert import_source(tmp_path / "d").table.equals(again.table)
    for index, (path, mask) in enumerate(zip(again.image_paths, again.mask_paths, strict=True)):
        sample = draw_sample(2, index, (96, 72))
        assert mask is not None
        with Image.open(mask) as written:
            assert written.mode == "L"
            assert (np.asarray(written) == 255 * sample.mask).all()
        picture = simplejpeg.decode_jpeg(path.read_bytes())
        assert np.abs(picture.astype(int) - sample.image).mean() < 6
        row = again.table.iloc[index]
        assert float(row["ita"]) == pytest.approx(sample.ita_deg, abs=1e-4)
        assert int(row["target"]) == sample.target
        assert int(row["group"]) == classify(sample.ita_deg, TONE_GROUPS["four"])
        assert row["group_str"] == TONE_GROUPS["four"].names[int(row["group"])]
        assert int(row["hair"]) == sample.artefacts.hair
    write_sheet(again, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (6 * 240, 2 * (180 + 22))


def test_folders_in_use(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    synthesize(folder, settings(), workers=1)
    before = contents(folder)
    synthesize(folder, settings(), workers=1)  # the same again
    assert contents(folder) == before
    with pytest.raises(InputError) as caught:
        synthesize(folder, settings(images=9, seed=1), workers=1)
    assert str(caught.value) == (
        f"{folder}: drawn with another images, seed, expected an empty folder, or `overwrite=True`"
    )
    assert contents(folder) == before
    synthesize(folder, settings(images=9, seed=1), workers=1, overwrite=True)
    assert len(list((folder / "images").iterdir())) == len(list((folder / "masks").iterdir())) == 9

    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(InputError) as caught:
        synthesize(other, settings(), workers=1)
    assert str(caught.value) == f"{other}: holds other files, expected an empty folder, or `overwrite=True`"
    synthesize(other, settings(images=1), workers=1, overwrite=True)
    assert (other / "thesis.txt").read_text() == "mine"


def test_interrupted_leaves_no_labels(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    synthesize(folder, settings(), workers=1)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(folder, settings(), workers=1, progress=stop)
    assert not (folder / "labels.csv").exists()
    assert json.loads((folder / "synth.json").read_text())["images"] == 12
    assert len(synthesize(folder, settings(), workers=1)) == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": 0}, "`images` must be 1 or more, got 0"),
        ({"seed": -1}, "`seed` must be 0 or more, got -1"),
        ({"size": (600, 63)}, "`size` must be 64 to 4096 pixels a side, got 600x63"),
        ({"size": (9000, 64)}, "`size` must be 64 to 4096 pixels a side, got 9000x64"),
        ({"malignant": 1.5}, "`malignant` must be a fraction in 0..1, got 1.5"),
        ({"malignant": float("nan")}, "`malignant` must be a fraction in 0..1, got nan"),
        ({"groups": "five"}, "groups: got 'five', expected six or four"),
    ],
)
def test_bad_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        settings(**changes)
    assert str(caught.value) == message


def test_bad_places(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError) as caught:
        synthesize(file, settings(), workers=1)
    assert str(caught.value) == f"{file}: is a file, expected a folder"
    with pytest.raises(InputError, match=r"file.*cannot be written: Not a directory"):
        synthesize(file / "d", settings(), workers=1)
    with pytest.raises(InputError, match="`workers` must be 1 or more, got 0"):
        synthesize(tmp_path / "d", settings(), workers=0)
