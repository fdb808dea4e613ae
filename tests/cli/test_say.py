"""What commands print: names from tables and folders never control the terminal."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from melfast.cli import main
from melfast.cli.say import say

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "\x1b]0;x\x07[red]r\rb"


def test_a_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"{HOSTILE}\nnext é")
    assert capsys.readouterr().out == "\\x1b]0;x\\x07[red]r\\rb\\nnext é\n"


def test_commands_print_by_say_alone() -> None:
    """Except YAML and JSON, which escape by themselves."""
    for file in sorted((ROOT / "melfast/cli").glob("*.py")):
        if file.name not in ("say.py", "progress.py", "__init__.py"):
            for call in re.findall(r"(?:click\.echo|\bprint|\bsecho)\(.*", file.read_text()):
                assert re.match(r"click\.echo\((config\.to_yaml|json\.dumps)|print\(results_table\(", call), (
                    f"{file}: {call}"
                )


def test_columns_of_a_table(tmp_path: Path) -> None:
    rows = "".join(f"i{n},{n % 2},x\n" for n in range(4))
    (tmp_path / "m.csv").write_text(f'image_name,target,"{HOSTILE}"\n{rows}', newline="")
    command = ["prepare", "import", str(tmp_path / "m.csv"), "--no-images", "--output", str(tmp_path / "i.csv")]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert r"\x1b]0;x\x07[red]r b" in done.output
    assert not set("\x1b\x07\r").intersection(done.output), repr(done.output)


def test_the_table_of_metrics_takes_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    from types import SimpleNamespace

    from melfast.cli.measured import PERCENT_COLUMNS, show
    from melfast.report.measures import OVERALL

    numbers = dict.fromkeys(("auc", "average_precision", *PERCENT_COLUMNS), 0.5)
    row = {"images": 1, "malignant": 1, **numbers, "confusion": dict.fromkeys(("tn", "fp", "fn", "tp"), 1)}
    measured = {OVERALL: row, "groups": {HOSTILE: row}, "remarks": [HOSTILE]}
    show(SimpleNamespace(measured=measured, title="t", files=[]))  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert said.count(r"\x1b]0;x\x07[red]r\rb") == 2
    assert not set("\x1b\x07\r").intersection(said)
