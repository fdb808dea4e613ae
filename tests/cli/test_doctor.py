"""melfast doctor, from the command line."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from melfast.cli import main
from melfast.doctor import examine
from melfast.doctor.examine import PROBES, USES, Finding, Probe


def finding(probe: Probe, status: examine.Status = "ok") -> Finding:
    fix = None if status == "ok" else f"fix {probe.name}"
    text = f"text {probe.name}"
    return Finding(probe.name, probe.what, status, text, fix, probe.needed, {"is": probe.name})


def doctor(monkeypatch: pytest.MonkeyPatch, statuses: dict[str, examine.Status], *words: str) -> Result:
    def fake() -> Iterator[Finding]:
        for probe in PROBES + USES:
            yield finding(probe, statuses.get(probe.name, "ok"))

    monkeypatch.setattr(examine, "examine", fake)
    return CliRunner().invoke(main, ["doctor", *words])


def test_all_well(monkeypatch):
    result = doctor(monkeypatch, {})
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("melfast 0.1.0, Python 3.")
    assert lines[1] == "  ok      core         text core"
    assert lines[-3:] == [
        "  ok      train        text train",
        "  ok      predict      text predict",
        "training and prediction on the CPU would work",
    ]
    assert lines[-4] == "would be used by"
    assert len(lines) == len(PROBES + USES) + 3


def test_gaps_are_shown_with_what_mends_them_and_do_not_fail(monkeypatch):
    result = doctor(monkeypatch, {"dali": "absent", "folders": "gap", "tensorrt": "broken"})
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    at = lines.index("  gap     folders      text folders")
    assert lines[at + 1] == " " * 23 + "write permissions: fix folders"
    assert "  absent  dali         text dali" in lines
    assert "  broken  tensorrt     text tensorrt" in lines


@pytest.mark.parametrize("name", ["core", "torch", "onnxruntime", "images", "train", "predict"])
@pytest.mark.parametrize("status", ["absent", "broken"])
def test_what_is_needed_fails(monkeypatch, name, status):
    result = doctor(monkeypatch, {name: status})
    assert result.exit_code == 1
    assert result.stderr == f"training or prediction would not work: see {name}\n"
    assert "would work" not in result.stdout.splitlines()[-1]


def test_json(monkeypatch):
    well, ill = (doctor(monkeypatch, s, "--json") for s in ({}, {"torch": "broken"}))
    assert (well.exit_code, ill.exit_code) == (0, 1)
    assert json.loads(well.stdout)["ok"] is True
    found = json.loads(ill.stdout)
    assert found["ok"] is False
    (torch,) = [f for f in found["findings"] if f["name"] == "torch"]
    assert torch == {
        "name": "torch",
        "what": "training",
        "status": "broken",
        "text": "text torch",
        "fix": "fix torch",
        "needed": True,
        "facts": {"is": "torch"},
    }


def test_here_as_it_is():
    result = CliRunner().invoke(main, ["doctor", "--json"])
    found = json.loads(result.stdout)
    status = {f["name"]: f["status"] for f in found["findings"]}
    assert result.exit_code == 0
    assert status["train"] == status["predict"] == status["core"] == "ok"
