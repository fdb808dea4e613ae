"""melfast evaluate, from the command line."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from sklearn import metrics as sk

from melfast.cli import main
from melfast.config.loading import Override
from melfast.config.schema import load_config
from melfast.models.checkpoint import find_checkpoint, load_state, read_record
from melfast.train.run import run_training


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    values = {
        "preprocess.height": 24,
        "preprocess.width": 32,
        "model.backbone": "resnet10t",
        "model.backbone_options": {"channels": [4, 4, 8, 8], "stem_width": 4},
        "optim.lr": 0.03,
        "train.epochs": 4,
        "train.batch_size": 8,
        "train.threads": 1,
        "data.threads": 1,
        "data.path": str(tiny_data),
        "output.dir": str(folder),
    }
    config, _ = load_config(None, [Override(k, v, "test") for k, v in values.items()])
    run_training(config, {}, resume=False)
    return folder


def evaluate(*arguments: object) -> Result:
    report = [] if "--report" in arguments else ["--no-report"]
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments), *report])


def test_help_ends_with_examples() -> None:
    found = evaluate("--help")
    assert found.exit_code == 0
    assert "melfast evaluate --checkpoint runs/first --data-path" in found.output


def test_run(run: Path) -> None:
    found = evaluate("--checkpoint", run)
    assert found.exit_code == 0, found.output
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    with open(run / "evaluation" / "test" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_name"] for row in rows] == [f"t{i}" for i in range(56, 80)]
    true = [int(row["target"]) for row in rows]
    score = [float(row["probability"]) for row in rows]
    called = [int(row["prediction"]) for row in rows]
    assert metrics["all"]["auc"] == pytest.approx(sk.roc_auc_score(true, score))
    assert metrics["all"]["f1"] == pytest.approx(sk.f1_score(true, called))
    assert called == [s >= metrics["threshold"] for s in score]
    assert f"{metrics['all']['auc']:.4f}" in found.output
    assert list(metrics["groups"]) == ["light", "dark"]
    dark = [i for i, row in enumerate(rows) if row["group"] == "dark"]
    assert metrics["groups"]["dark"]["images"] == len(dark) == 12
    assert metrics["groups"]["dark"]["auc"] == pytest.approx(
        sk.roc_auc_score([true[i] for i in dark], [score[i] for i in dark])
    )


def test_calls_by_group_where_recall_is_to_be_equal(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    values = {
        "train.threshold_rule": "equal_recall",
        "train.threshold_value": 0.75,
        "output.dir": str(tmp_path / "run"),
        "train.epochs": 1,
    }
    config, _ = load_config(run / "config.yaml", [Override(k, v, "t") for k, v in values.items()])
    run_training(config, {}, resume=False)
    record = read_record(find_checkpoint(tmp_path / "run"))
    assert record.threshold_rule == "equal_recall 0.75"
    assert len(set(record.group_thresholds)) == 2

    found = evaluate("--checkpoint", tmp_path / "run", "--split", "valid", "--report", "--output-dir", tmp_path / "e")
    assert found.exit_code == 0, found.output
    light, dark = record.group_thresholds
    assert f"split valid, thresholds light {light:.4f}, dark {dark:.4f}" in " ".join(found.output.split())
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["group_thresholds"] == {"light": light, "dark": dark}
    # 6 malignant images a group: 5 of 6 is the first share of 0.75 at least.
    assert {metrics["groups"][name]["recall"] for name in ("light", "dark")} == {5 / 6}
    with open(tmp_path / "e" / "predictions.csv", newline="") as file:
        for row in csv.DictReader(file):
            cut = metrics["group_thresholds"][row["group"]]
            assert int(row["prediction"]) == (float(row["probability"]) >= cut)
    document = json.loads((tmp_path / "e" / "report" / "metrics.json").read_text())
    assert document["models"][0]["overall"]["recall"]["value"] == 5 / 6
    card = (tmp_path / "e" / "report" / "model_card.md").read_text()
    assert f"Thresholds for images of known tone group: light {light:.4f}, dark {dark:.4f}." in card


def test_valid_split_gives_what_training_said(run: Path, tmp_path: Path) -> None:
    evaluate("--checkpoint", run, "--split", "valid", "--output-dir", tmp_path)
    found = json.loads((tmp_path / "metrics.json").read_text())
    best = load_state(find_checkpoint(run, "last")).best
    for name in ("auc", "average_precision", "recall", "f1", "balanced_accuracy"):
        assert found["all"][name] == pytest.approx(best[name], abs=1e-9)
    assert found["threshold"] == best["threshold"]


def test_ends_with_a_report(run: Path, tmp_path: Path) -> None:
    found = evaluate("--checkpoint", run, "--output-dir", tmp_path, "--report")
    assert found.exit_code == 0, found.output
    assert found.output.splitlines()[-1] == str(tmp_path / "report" / "report.html")
    plain = json.loads((tmp_path / "metrics.json").read_text())
    (model,) = json.loads((tmp_path / "report" / "metrics.json").read_text())["models"]
    for metric in ("auc", "recall", "f1"):
        assert model["overall"][metric]["value"] == pytest.approx(plain["all"][metric], abs=1e-9)
    assert list(model["groupings"]) == ["group"]
    assert (tmp_path / "report" / "forest-group.png").is_file()
    card = (tmp_path / "report" / "model_card.md").read_text()
    _, front, text = card.split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["pipeline_tag"] == "image-classification"
    (result,) = values["model-index"][0]["results"]
    by_type = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert by_type["roc_auc"] == pytest.approx(plain["all"]["auc"], abs=5e-5)
    assert "| train | 32 | 16 (50.0%) |" in text
    assert "resnet10t on 32x24 rgb pixels" in text
    assert f"Threshold {plain['threshold']:.4f}, chosen on the validation split by youden" in text
    assert f"; threshold {plain['threshold']:.4f}." in text  # the same of the numbers
    assert "| dark | 12 | 6 |" in text


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_say_the_same_to_the_last_bit(run: Path, tmp_path: Path, processes: int) -> None:
    alone = evaluate("--checkpoint", run, "--output-dir", tmp_path / "1", "--batch-size", 5)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "-m",
        "melfast",
        "evaluate",
        "--no-report",
        "--checkpoint",
        run,
        "--batch-size",
        "5",
        "--output-dir",
        tmp_path / "2",
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    assert found.stdout == alone.stdout.replace(str(tmp_path / "1"), str(tmp_path / "2"))
    for name in ("metrics.json", "predictions.csv"):
        assert (tmp_path / "2" / name).read_text() == (tmp_path / "1" / name).read_text()


def test_all_of_another_data_set(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    table = tmp_path / "manifest.csv"
    rows = [f"x{i},{tiny_data.parent}/t{i:02d}.png,{'' if i == 9 else i % 2}" for i in range(10)]
    table.write_text("image_name,path,target\n" + "\n".join(rows) + "\n")
    found = evaluate("--checkpoint", run, "--data-path", table, "--split", "all", "--output-dir", tmp_path / "out")
    assert found.exit_code == 0, found.output
    assert "note: 1 images have no target: predicted, not measured" in found.output
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["all"]["images"] == 9
    assert metrics["groups"] == {}
    assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 11


def test_skipped_images_are_counted(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    table = tmp_path / "manifest.csv"
    (tmp_path / "bad.png").write_bytes(b"")
    rows = [f"x{i},{tiny_data.parent}/t{i:02d}.png,{i % 2}" for i in range(6)]
    table.write_text("image_name,path,target\n" + "\n".join(rows) + "\nbad,bad.png,1\n")
    arguments = ["--checkpoint", run, "--data-path", table, "--split", "all", "--output-dir", tmp_path / "out"]
    found = evaluate(*arguments)
    assert "bad.png: " in str(found.exception)
    assert not (tmp_path / "out").exists()
    found = evaluate(*arguments, "--on-error", "skip")
    assert "note: 1 of 7 images left out; the first: " in found.output
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["all"]["images"] == 6
    assert len(metrics["left_out"]) == 1


def test_errors(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    def message(*arguments: object) -> str:
        found = evaluate(*arguments)
        assert found.exit_code != 0
        return str(found.exception)

    assert message("--checkpoint", tmp_path).startswith(f"{tmp_path}: no checkpoint here; expected")
    assert message("--checkpoint", run, "--split", "validation") == (
        "--split must be train, valid, test or all, got 'validation'"
    )
    alone = tmp_path / "alone"
    shutil.copytree(find_checkpoint(run), alone)
    assert message("--checkpoint", alone) == (
        f"{alone}: is not in a run folder with a manifest.csv: expected --data-path"
    )
    table = tmp_path / "t.csv"
    table.write_text(f"image_name,path\na,{tiny_data.parent}/t00.png\n")
    assert message("--checkpoint", run, "--data-path", table, "--split", "all") == (
        f"{table}: none of the 1 images has a target; 'melfast predict' needs none"
    )
    wanted = f"{table}: no image in split 'test' (images by split: none: 1)"
    assert message("--checkpoint", run, "--data-path", table) == wanted


def test_checkpoint_without_a_threshold(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "early"
    shutil.copytree(find_checkpoint(run), folder)
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(record | {"threshold": None}))
    found = evaluate("--checkpoint", folder, "--data-path", tiny_data)
    assert "note: the checkpoint has no threshold yet" in found.output
    assert json.loads((folder / "evaluation/test/metrics.json").read_text())["threshold"] == 0.5
