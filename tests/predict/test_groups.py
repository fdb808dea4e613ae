"""Tone groups: evaluate, export and predict give the same probability and call for the same image and group."""

import csv
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from melfast.cli import main
from melfast.data.preprocess import Preprocess
from melfast.evaluate.run import run_evaluation
from melfast.export.check import draw_images, torch_logits
from melfast.export.formats import export_onnx
from melfast.io.errors import InputError
from melfast.models.checkpoint import State, save_checkpoint
from melfast.models.classifier import build_classifier
from melfast.models.decode import decode
from melfast.models.heads import HEADS
from melfast.models.record import ModelRecord
from melfast.models.running import InferenceSettings
from melfast.predict import overlay
from melfast.predict.predictor import Predictor
from melfast.predict.sources import find_images

GROUPS = ("light", "tan", "dark")
STATED = ["light", "tan", "dark", "", "light", "tan", "dark", ""]
# The third group had no malignant image: its logits say nothing.
THRESHOLDS = (0.3, 0.7, 0.45)
PRIORS = ((0.5, 0.1), (0.3, 0.05), (0.05, 0.0))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(head: str) -> tuple[torch.nn.Module, ModelRecord]:
    """Random weights whose P(malignant) spreads over images, and differs from group to group."""
    record = ModelRecord("resnet10t", Preprocess(24, 32), {"channels": [4, 4, 8, 8], "stem_width": 4}).replace(
        head=head,
        groups=GROUPS,
        priors=PRIORS,
        inference="group_conditional",
        threshold=0.5,
        group_thresholds=THRESHOLDS,
    )
    torch.manual_seed(3)
    model = build_classifier(record).eval()
    logits = torch_logits(model, record.preprocess, draw_images(np.random.default_rng(0), 32, 24, 32))
    with torch.no_grad():
        model.fc.weight /= logits.std(0)[:, None]  # type: ignore[union-attr, operator]
        model.fc.bias.copy_(-logits.mean(0) / logits.std(0))  # type: ignore[union-attr, operator]
    return model, record


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An ONNX file of each head."""
    folder = tmp_path_factory.mktemp("onnx")
    for head in HEADS:
        export_onnx(*make(head), folder / f"{head}.onnx")
    return {head: folder / f"{head}.onnx" for head in HEADS}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    lines = ["image_name,path,target,group,group_str"]
    for i, (image, group) in enumerate(zip(draw_images(np.random.default_rng(1), 8, 24, 32), STATED, strict=True)):
        Image.fromarray(image).save(folder / f"i{i}.png")
        lines.append(f"i{i},i{i}.png,{i % 2},{GROUPS.index(group) if group else ''},{group}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def predict(model: Path, images: Path, output: Path, *more: str) -> Result:
    arguments = ["--model", model, "--images", images, "--output", output, "--threads", "1", *more]
    found = CliRunner().invoke(main, ["predict", *map(str, arguments)], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found


@pytest.mark.parametrize("head", HEADS)
def test_every_route_says_the_same(head: str, exported: dict[str, Path], manifest: Path, tmp_path: Path) -> None:
    model, record = make(head)
    run = tmp_path / "run"
    save_checkpoint(run, model.state_dict(), record, State(), {}, best=True)
    run_evaluation(run, manifest, "all", tmp_path / "e", InferenceSettings(threads=1))
    evaluated = rows(tmp_path / "e" / "predictions.csv")
    probability = np.array([float(row["probability"]) for row in evaluated])
    called = [row["prediction"] for row in evaluated]

    for source in (run, exported[head]):
        predict(source, manifest, tmp_path / "p.csv")
        predicted = rows(tmp_path / "p.csv")
        assert [row["image_name"] for row in predicted] == [row["image_name"] for row in evaluated]
        np.testing.assert_allclose([float(row["probability"]) for row in predicted], probability, atol=1e-5)
        assert [row["prediction"] for row in predicted] == called
        (tmp_path / "p.csv").unlink()

    files = [manifest.parent / f"i{i}.png" for i in range(8)]
    predictor = Predictor(exported[head], threads=1)
    np.testing.assert_allclose(predictor(files, groups=STATED), probability, atol=1e-5)
    arrays = [np.asarray(Image.open(file)) for file in files]
    np.testing.assert_allclose(predictor(arrays, groups=STATED, batch_size=3), probability, atol=1e-5)
    # Without the groups it is the mean over them: the same as before for heads that do not ask.
    without = predictor(files)
    assert np.allclose(without, probability, atol=1e-5) == (head != "domain_independent")


def test_by_hand() -> None:
    """Odds of 1 : 1, 1 : 3 and 1 : 9; the mean of the learnt two is 1 : sqrt 3."""
    _, record = make("domain_independent")
    logits = torch.log(torch.tensor([[1.0, 1.0, 1.0, 3.0, 1.0, 9.0]])).expand(5, 6)
    found = decode(logits, record, torch.tensor([0, 1, 2, -1, 7]))
    mean = 3**0.5 / (1 + 3**0.5)
    torch.testing.assert_close(found, torch.tensor([0.5, 0.75, mean, mean, mean]))


def test_unknown_tones_are_told(exported: dict[str, Path], manifest: Path, tmp_path: Path) -> None:
    given = "the model uses it: they get the mean over the groups and the threshold of all images"
    found = predict(exported["domain_independent"], manifest, tmp_path / "p.csv")
    assert f"note: the tone group of 2 of 8 images is unknown, and {given}\n" in found.output
    found = predict(exported["domain_independent"], manifest.parent, tmp_path / "q.csv")
    assert (
        f"note: the tone group of 8 of 8 images is unknown, and {given}; "
        "--with-ita measures them, or --images TABLE.csv with a column group states them\n"
    ) in found.output
    assert found.output.count("note: the tone group") == 1
    # A plain head has its thresholds alone by group.
    found = predict(exported["plain"], manifest.parent, tmp_path / "r.csv")
    assert "the model uses it: they get the threshold of all images; --with-ita" in found.output
    told = predict(exported["plain"], manifest.parent, tmp_path / "r.csv", "--threshold", "0.5").output
    assert "tone group" not in told


def test_with_ita_measures_what_no_table_states(
    exported: dict[str, Path], manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {"i0.png": "dark", "i3.png": "tan"}
    looked: list[str] = []
    see = overlay.inspect_image

    def counted(path: Path, groups: tuple[str, ...]) -> overlay.Inspection:
        looked.append(path.name)
        return replace(see(path, groups), group=measured.get(path.name, ""))

    monkeypatch.setattr(overlay, "inspect_image", counted)
    predict(exported["domain_independent"], manifest, tmp_path / "p.csv", "--with-ita", "--tta", "flips")
    assert sorted(looked) == [f"i{i}.png" for i in range(8)]  # each once
    groups = ["light", "tan", "dark", "tan", "light", "tan", "dark", ""]  # a group that is stated wins
    predictor = Predictor(exported["domain_independent"], threads=1)
    files = [manifest.parent / f"i{i}.png" for i in range(8)]
    found = rows(tmp_path / "p.csv")
    assert [row["group"] for row in found] == groups
    probability = [float(row["probability"]) for row in found]
    np.testing.assert_allclose(probability, predictor(files, groups=groups, tta="flips"), atol=1e-6)
    limits = dict(zip((*GROUPS, ""), (*THRESHOLDS, 0.5), strict=True))
    assert [row["prediction"] for row in found] == [
        str(int(p >= limits[group])) for p, group in zip(probability, groups, strict=True)
    ]


def test_groups_of_a_table(tmp_path: Path) -> None:
    def groups(text: str) -> list[str]:
        (tmp_path / "t.csv").write_text(text)
        return list(find_images(str(tmp_path / "t.csv")).groups)

    assert groups("path\na.png\n") == []
    assert groups("path,group\na.png,dark\nb.png,\nc.png,NA\n") == ["dark", "", ""]
    # As a manifest: a group has a name where any of its rows names it.
    assert groups("path,group,group_str\na.png,0,light\nb.png,0,\nc.png,-1,\nd.png,1,\n") == ["light", "light", "", "1"]
    assert groups("path,group_str\na.png,dark\nb.png,none\n") == ["dark", ""]
    (tmp_path / "t.csv").write_text("path,group\na.png,dark\nb.png,light\n")
    assert list(find_images(str(tmp_path / "t.csv")).shard("2/2").groups) == ["light"]


def test_predictor_and_its_groups(exported: dict[str, Path], manifest: Path, caplog: pytest.LogCaptureFixture) -> None:
    predictor = Predictor(exported["domain_independent"], threads=1)
    files = [manifest.parent / f"i{i}.png" for i in range(2)]
    with caplog.at_level(logging.WARNING, "melfast"):
        predictor(files, groups=["dark", None])
    (message,) = [record.getMessage() for record in caplog.records if record.name == "melfast"]
    assert message.startswith("the tone group of 1 of 2 images is unknown, and the model uses it: they get the mean")
    with pytest.raises(InputError, match=r"^groups: got 'drak', expected light, tan or dark; did you mean 'dark'\?$"):
        predictor(files, groups=["drak", "tan"])
    with pytest.raises(InputError, match=r"^groups: got 1 for 2 images$"):
        predictor(files, groups=["dark"])
    with pytest.raises(ValueError, match=r"^group must be int64 \[2\], got \[3\]$"):
        predictor.engine.run(np.zeros((2, 24, 32, 3), np.uint8), np.zeros(3, np.int64))
