"""Findings of probes that answer, lack something, are wrong, crash or hang."""

import os
import re
import sys
import textwrap
from pathlib import Path

import pytest

from melfast.doctor import examine, libraries, machine
from melfast.doctor.examine import PROBES, USES, Probe, look

BY_NAME = {probe.name: probe for probe in PROBES + USES}


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that puts a package with a given name and code in front of the real one."""

    def put(name: str, code: str) -> None:
        folder = tmp_path / "pretend" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(textwrap.dedent(code))
        monkeypatch.syspath_prepend(tmp_path / "pretend")

    return put


def missing(name: str) -> str:
    return f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')"


def test_every_probe_is_a_function():
    modules = {"machine": machine, "libraries": libraries}
    for probe in PROBES + USES:
        assert callable(getattr(modules[probe.module], probe.name)), probe
        assert probe.fix
    assert len(BY_NAME) == len(PROBES + USES)


def test_nothing_sends_to_a_package_index_for_melfast():
    """melfast is not on a package index; whoever takes its name there would be installed."""
    by_name = re.compile(r"pip install\b.*[\s'\"]melfast(?![\w./:*-])")
    package = Path(examine.__file__).parents[1]
    pages = [package.parent / "README.md", *(package.parent / "docs").rglob("*.md")]
    for path in [*package.rglob("*.py"), *pages]:
        for line in path.read_text().splitlines():
            assert not by_name.search(line), f"{path}: {line}"


def test_what_works_is_ok():
    finding = look(BY_NAME["core"])
    assert (finding.status, finding.fix, finding.stops) == ("ok", None, False)
    assert finding.facts["isa"] in finding.text


def test_a_missing_package_is_absent(pretend):
    pretend("simplejpeg", missing("simplejpeg"))
    finding = look(BY_NAME["images"])
    assert (finding.status, finding.text) == ("absent", "No module named 'simplejpeg'")
    assert finding.fix == "pip install --force-reinstall simplejpeg pillow"
    assert finding.stops


def test_a_missing_package_that_is_not_needed_stops_nothing(pretend):
    pretend("submitit", missing("submitit"))
    finding = look(BY_NAME["slurm"])
    assert (finding.status, finding.fix) == ("absent", "pip install submitit")
    assert not finding.stops


def test_dali_is_absent_where_other_packages_of_nvidia_are(pretend):
    pretend("nvidia", "")
    finding = look(BY_NAME["dali"])
    assert (finding.status, finding.text) == ("absent", "No module named 'nvidia.dali'")


def test_a_broken_import_is_broken(pretend):
    pretend("simplejpeg", "raise ImportError('libturbojpeg.so.0: cannot open\\nshared object file')")
    finding = look(BY_NAME["images"])
    assert finding.status == "broken"
    assert finding.text == "ImportError: libturbojpeg.so.0: cannot open shared object file"
    assert finding.stops


def test_a_wrong_result_is_broken(pretend):
    pretend(
        "simplejpeg",
        """
        import numpy as np
        def encode_jpeg(image): return b""
        def decode_jpeg(data, colour): return np.zeros((16, 16, 3), np.uint8)
    """,
    )
    finding = look(BY_NAME["images"])
    assert finding.status == "broken"
    assert finding.text == "RuntimeError: simplejpeg made [0 0 0] of 90"


def test_a_crash_is_broken(pretend):
    pretend("simplejpeg", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    finding = look(BY_NAME["images"])
    assert (finding.status, finding.text) == ("broken", "crashed: SIGSEGV")


def test_an_early_end_is_broken(pretend):
    code = "import os, sys; print('out of cheese', file=sys.stderr, flush=True); os._exit(3)"
    pretend("simplejpeg", code)
    finding = look(BY_NAME["images"])
    assert (finding.status, finding.text) == ("broken", "ended with code 3: out of cheese")


def test_no_answer_is_broken(pretend):
    pretend("simplejpeg", "import time; time.sleep(600)")
    finding = look(BY_NAME["images"], limit_s=2)
    assert (finding.status, finding.text) == ("broken", "no answer in 2 s")


def test_a_python_that_cannot_be_run_is_broken(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    finding = look(BY_NAME["core"])
    assert finding.status == "broken"
    assert finding.text == (f"cannot be tried: [Errno 2] No such file or directory: '{tmp_path / 'python'}'")


def test_noise_of_a_library_is_not_its_answer(pretend):
    pretend("submitit", "print('melfast'); print('no newline', end=''); __version__ = '9.9'")
    finding = look(BY_NAME["slurm"])
    assert (finding.status, finding.text) == ("ok", "submitit 9.9")


def test_what_a_library_does_at_exit_is_not_waited_for(pretend):
    pretend(
        "submitit",
        """
        import atexit, time
        atexit.register(time.sleep, 600)
        __version__ = "9.9"
    """,
    )
    finding = look(BY_NAME["slurm"], limit_s=20)
    assert (finding.status, finding.text) == ("ok", "submitit 9.9")


def test_a_file_in_the_current_folder_is_no_library(tmp_path, monkeypatch):
    (tmp_path / "submitit.py").write_text("raise SystemExit('of the current folder')")
    monkeypatch.chdir(tmp_path)
    assert look(BY_NAME["slurm"]).status == "ok"


def test_an_unknown_instruction_set_says_how_to_go_on(monkeypatch):
    monkeypatch.setenv("MELFAST_ISA", "sse9")
    finding = look(BY_NAME["core"])
    assert (finding.status, finding.fix) == ("broken", "unset MELFAST_ISA")
    assert "got 'sse9'" in finding.text
    assert finding.stops


def test_a_gap_stops_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "file"
    folder.write_text("")
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "hub"))
    finding = look(BY_NAME["folders"])
    assert finding.status == "gap"
    assert finding.text == f"cannot be written: pretrained weights ({folder / 'hub'})"
    assert finding.fix == "export HF_HOME=/a/writable/folder"
    assert not finding.stops


def test_a_torchrun_around_it_is_not_joined(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # would wait for a second process
    monkeypatch.setenv("RANK", "0")
    finding = look(BY_NAME["train"], limit_s=120)
    assert finding.status == "ok"
    assert finding.facts["loader"] == "native"
    assert finding.facts["threads"] == len(os.sched_getaffinity(0))


def test_predict_needs_no_torch(pretend):
    pretend("torch", "raise OSError('libtorch_cpu.so: cannot open')")
    trained, predicted = look(BY_NAME["train"]), look(BY_NAME["predict"])
    assert (trained.status, trained.stops) == ("broken", True)
    assert trained.text == "OSError: libtorch_cpu.so: cannot open"
    assert predicted.status == "ok"
    assert predicted.facts == {
        "backend": "onnx-cpu",
        "provider": "CPUExecutionProvider",
        "threads": len(os.sched_getaffinity(0)),
    }


def test_findings_come_in_the_order_of_the_probes(monkeypatch):
    child = "import sys, time; time.sleep(0.4 * (sys.argv[2] == 'a')); print('melfast-doctor ' + "
    monkeypatch.setattr(examine, "CHILD", child + "'{\"text\": \"' + sys.argv[2] + '\"}')")
    probes = tuple(Probe("machine", name, "what", "fix") for name in "abc")
    assert [finding.text for finding in examine.examine(probes)] == ["a", "b", "c"]


def test_the_real_packages_of_this_environment_serve():
    names = ("packages", "onnxruntime", "plots", "dali", "tensorrt", "compiler")
    findings = {f.name: f for f in examine.examine(tuple(BY_NAME[name] for name in names))}
    # Beside a GPU that ONNX Runtime cannot use, "gap".
    assert {finding.status for finding in findings.values()} <= {"ok", "gap"}
    assert "CPUExecutionProvider" in findings["onnxruntime"].facts["working"]
    assert findings["packages"].facts["numpy"] == sys.modules["numpy"].__version__
