"""docs/notebooks: they run from top to bottom on synthetic data, and are stripped."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from melfast.skin.tone import TONE_GROUPS

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run(notebook: NotebookNode, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs it in place, in a kernel of this Python; what it printed. Raises where a cell does."""
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    said = [output for output in outputs if output.output_type == "stream"]
    assert [output.text for output in said if output.name == "stderr"] == []  # no warnings either
    return "".join(output.text for output in said)


def pictures(notebook: NotebookNode) -> int:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_all_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["fairness", "skin_tone", "training"]


@each_notebook
def test_stripped(path: Path) -> None:
    """As nbstripout leaves it; `make lint` asks that as well."""
    notebook = read(path)
    for cell in code_cells(notebook):
        assert cell.outputs == [], f"{path.name}: cell {cell.id} has outputs"
        assert cell.execution_count is None, f"{path.name}: cell {cell.id} has a number"
    assert all(cell.metadata == {} for cell in notebook.cells)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook.metadata == {"kernelspec": kernel}


@each_notebook
def test_uses_public_names_alone(path: Path) -> None:
    code = "\n".join(cell.source for cell in code_cells(read(path)))
    imports = re.findall(r"^(?:from|import) (melfast\S*)(?: import (.*))?$", code, re.M)
    assert imports
    for module, names in imports:
        parts = [*module.split("."), *re.split(r"\W+", names)]
        assert [part for part in parts if part.startswith("_")] == []
        assert "melfast.core" not in module
    assert re.findall(r"\w\._\w+", code) == []


@each_notebook
def test_links_lead_somewhere(path: Path) -> None:
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (path.parent / link).is_file(), link


def test_skin_tone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = read(FOLDER / "skin_tone.ipynb")
    said = run(notebook, tmp_path, monkeypatch)
    assert pictures(notebook) == 8
    true, estimated, published = map(float, re.findall(r"true (\S+)°, cielab (\S+)°, published (\S+)\n", said)[0])
    assert abs(estimated - true) < 2  # degrees
    assert abs(published - true) > 10
    assert "72 images" in said
    # The text says that one stop too little moves the ITA by whole groups, unseen by the quality.
    moves = re.findall(r"ITA from (\S+)° to (\S+)° and the quality from (\S+) to (\S+)", said)
    assert len(moves) == 2
    for before, after, _, quality in moves:
        assert float(before) - float(after) > 30
        assert float(quality) > 0.5


def test_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook shows the results, its numbers agree, and the model has learnt something."""
    notebook = read(FOLDER / "training.ipynb")
    said = run(notebook, tmp_path, monkeypatch)
    assert pictures(notebook) == 4
    assert "240 images drawn" in said
    assert "done: best epoch" in said
    ((auc, above),) = re.findall(r"test AUC (\S+), as above (\S+)\n", said)
    assert abs(float(auc) - float(above)) < 0.01  # predict decodes at a reduced scale
    assert float(auc) > 0.7
    assert "Predictor('run': resnet10t, 64x48 rgb, threshold " in said
    ((picture, file),) = re.findall(r"one PIL image: (\S+), from its file: (\S+)\n", said)
    assert abs(float(picture) - float(file)) < 0.05


def test_fairness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the text says about the synthetic data is true; it compares the numbers by hand itself."""
    notebook = read(FOLDER / "fairness.ipynb")
    said = run(notebook, tmp_path, monkeypatch)
    assert pictures(notebook) == 7
    p_of_fair = dict(re.findall(r"a fair model, (\w+) images: .* p = (\S+)", said))
    assert float(p_of_fair["all"]) < 0.001
    assert min(float(p_of_fair["malignant"]), float(p_of_fair["benign"])) > 0.05
    alarms = dict(re.findall(r"(\w+) dealt out at random: .* in (\S+)% of cases", said))
    assert 3 < float(alarms["images"]) < 7 < float(alarms["patients"])  # percent, of 5 meant
    assert "worst group: brown" in said
    everything, enough = (float(re.findall(rf"{which}: gap .*, p = (\S+)", said)[0]) for which in ("groups", "more"))
    assert everything > 0.05 > 0.001 > enough
    (of_melfast,) = re.findall(r"5 % exceed \S+; p = (\S+)", said)
    assert float(of_melfast) < 0.001
    assert "left out: dark (3)" in said
    assert "the report's gap of recall is the one above" in said


def test_fairness_of_own_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tables than the drawn ones: no patients, no sources, some classes unknown."""
    rng = np.random.default_rng(0)
    target, group = rng.integers(0, 2, 200), rng.integers(0, 6, 200)
    names = [f"photo_{i}" for i in range(200)]
    rows = {"image_name": names, "path": "", "target": target, "group": group}
    manifest = pd.DataFrame(rows).assign(group_str=np.array(TONE_GROUPS["six"].names)[group], ita=60 - 20 * group)
    manifest["target"] = manifest["target"].astype(str).mask(manifest.index < 5, "")
    manifest.to_csv(tmp_path / "mine.csv", index=False)
    score = np.clip(0.3 + 0.4 * target + rng.normal(0, 0.2, 200), 0, 1)
    answers = {"image_name": names, "probability": score, "prediction": score >= 0.5}
    predictions = pd.DataFrame(answers).astype({"prediction": int})
    predictions[::-1].to_csv(tmp_path / "answers.csv", index=False)  # in another order

    notebook = read(FOLDER / "fairness.ipynb")
    drawn = 'MANIFEST, PREDICTIONS = folder / "manifest.csv", folder / "predictions.csv"'
    (cell,) = (cell for cell in code_cells(notebook) if drawn in cell.source)
    mine = f"Path({str(tmp_path / 'mine.csv')!r}), Path({str(tmp_path / 'answers.csv')!r})"
    cell.source = cell.source.replace(drawn, f"MANIFEST, PREDICTIONS = {mine}")
    said = run(notebook, tmp_path, monkeypatch)
    assert "195 of 200 images have a class and a tone group" in said
    malignant = int(target[5:].sum())
    assert f"{malignant} malignant images of {malignant} patients, up to 1 of one\n" in said
    assert "intraclass" not in said
    assert "the report's gap of recall is the one above" in said
