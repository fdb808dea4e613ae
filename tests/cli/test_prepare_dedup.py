"""prepare dedup, as typed."""

import subprocess
import sys
from pathlib import Path

import pytest

from melfast.data.manifest import read_manifest
from melfast.prepare.synth import SynthSettings, synthesize


@pytest.fixture
def data(tmp_path: Path) -> Path:
    drawn = synthesize(tmp_path / "data", SynthSettings(4, size=(120, 90)), workers=1)
    files = [*drawn.image_paths, drawn.image_paths[0], tmp_path / "broken.jpg"]
    (tmp_path / "broken.jpg").write_bytes(b"")
    lines = [f"i{n},{file},{n % 2 or int(n == 4)}" for n, file in enumerate(files)]
    (tmp_path / "m.csv").write_text("\n".join(["image_name,path,target", *lines]) + "\n")
    (tmp_path / "t.csv").write_text("image_name_1,image_name_2\ni1,i2\ni1,ISIC_9\n")
    return tmp_path


def dedup(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "melfast", "prepare", "dedup", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_dedup(data: Path) -> None:
    done = dedup("m.csv", "--output", "out.csv", "--table", "t.csv", cwd=data)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "out.csv: 2 copies among 6 images marked",
        "  bytes        1",
        "  table        1",
        "  groups       2",
        "out.bad.csv lists the 1 bad images",
        "t.csv: 1 pairs joined",
    ]
    assert done.stderr.splitlines() == [
        "bad: i5: found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF",
        "note: t.csv: 1 pairs name an image that is not in m.csv",
        "note: targets differ in group 1: i0 has target 0, i4 has target 1",
        "note: targets differ in group 2: i1 has target 1, i2 has target 0",
    ]
    assert not (data / "out.csv.dedup.partial").exists()
    again = dedup("out.csv", "--output", "o2.csv", cwd=data)
    assert again.returncode == 1
    assert "4 images have 'duplicate_group' already; --force replaces it" in again.stderr
    dropped = dedup("out.csv", "--output", "o2.csv", "--drop", "--force", cwd=data)
    assert dropped.returncode == 0, dropped.stderr
    assert read_manifest(data / "o2.csv").image_names == ["i0", "i1", "i2", "i3", "i5"]
