import codecs
import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from melfast.io.columns import nearest
from melfast.io.errors import InputError
from melfast.io.tables import read_column_names, read_table, require_columns, write_csv


def table_file(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_cells_stay_text(tmp_path: Path) -> None:
    table = read_table(table_file(tmp_path, "a,b\n001,NA\n,2.50\n"))
    assert table.frame.to_dict("list") == {"a": ["001", ""], "b": ["NA", "2.50"]}
    assert table.lines.tolist() == [2, 3]


def test_lines_are_the_files_own(tmp_path: Path) -> None:
    # A cell with a line break, blank lines and Windows line ends.
    table = read_table(table_file(tmp_path, 'a,b\r\n"x\r\ny",1\r\n\r\nz,2\r\n'))
    assert table.lines.tolist() == [2, 5]
    assert table.frame["a"].tolist() == ["x\r\ny", "z"]
    assert str(table.error(1, "message")) == f"{tmp_path / 't.csv'}:5: message"


def test_byte_order_mark_and_unnamed_index(tmp_path: Path) -> None:
    table = read_table(table_file(tmp_path, b"\xef\xbb\xbf,image_name\n0,a\n"))
    assert list(table.frame) == ["Unnamed: 0", "image_name"]


def test_semicolons_with_decimal_commas(tmp_path: Path) -> None:
    text = "name;ita;n;text;sci\na;43,86;12;1,2,3;1,5e-3\nb;-0,5;7;x;NA\nc;;8;1,5;2\n"
    table = read_table(table_file(tmp_path, text))
    assert table.frame.to_dict("list") == {
        "name": ["a", "b", "c"],
        "ita": ["43.86", "-0.5", ""],
        "n": ["12", "7", "8"],
        "text": ["1,2,3", "x", "1,5"],  # not all numbers: untouched
        "sci": ["1.5e-3", "NA", "2"],
    }


def test_commas_in_quotes_and_tabs(tmp_path: Path) -> None:
    assert read_table(table_file(tmp_path, 'a,b\n"1,5",x\n')).frame["a"].tolist() == ["1,5"]
    assert list(read_table(table_file(tmp_path, "a\tb\n1\t2\n")).frame) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "t.csv: is empty, expected a CSV file with a header"),
        (b" \n\n", "t.csv: is empty, expected a CSV file with a header"),
        (b"a,b\n", "t.csv: has a header but no rows"),
        (b"a,b\n1,2\n1,2,3\n", "t.csv:3: found 3 cells, expected 2 as in the header"),
        (b"a,b\n1,2\n1\n", "t.csv:3: found 1 cells, expected 2 as in the header"),
        (b"a,b,a\n1,2,3\n", "t.csv: column 'a' appears twice in the header"),
        (b"a,b\nx,1\n\xe9,2\n", "t.csv:3: is not UTF-8 (byte 0xe9); save as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16")[:-1], "t.csv:2: is not UTF-8 (byte 0x0a); save as UTF-8"),
        (b'a,b\nx,1\n"y,2\n', "t.csv:3: is not valid CSV: unexpected end of data"),
        (b",,\n,\n", "t.csv: is empty, expected a header"),
        (b"a\n1,2\n", "t.csv:2: found 2 cells, expected 1 as in the header"),
        (b"PK\3\4..", "t.csv: is a ZIP archive or an OpenDocument sheet; unpack it, or save it as CSV"),
        (b"\x1f\x8b..", "t.csv: is a gzip archive; unpack it"),
        (b"\xd0\xcf\x11\xe0..", "t.csv: is an Excel workbook of before 2007 (.xls); save it as .xlsx or CSV"),
    ],
)
def test_bad_files(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_table(table_file(tmp_path, text))
    assert str(caught.value) == f"{tmp_path}/{message}"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("sep=;\na;b\n1;2\n", [3]),
        ("\ufeffsep=|\r\na|b\r\n1|2\r\n", [3]),
        ("a|b\n1|2\n", [2]),
        ("a,b,,\n1,2,,\n,,,\n , ,,\n", [2]),
        ("a,b\n\n1,2,,\n", [3]),
        ("a,b\r1,2\r", [2]),
        ("a\tb\r\n1\t2\r\n".encode("utf-16"), [2]),
        (codecs.BOM_UTF16_BE + "a\tb\n1\t2\n".encode("utf-16-be"), [2]),
        ("|| a  ||  b ||\n|| 1 || 2 ||\n\na: what it means\n", [2]),
        ('"A study, of skin",,,,\n\na,b,,,\n1,2,,,,\n', [4]),
        ("Study;\na;b\n1;2\n", [3]),
        ("# exported\na\tb\n1\t2\n", [3]),
    ],
)
def test_dialects(tmp_path: Path, text: str | bytes, lines: list[int]) -> None:
    path = table_file(tmp_path, text)
    table = read_table(path)
    assert {name: [cell.strip() for cell in cells] for name, cells in table.frame.to_dict("list").items()} == {
        "a": ["1"],
        "b": ["2"],
    }
    assert table.lines.tolist() == lines
    assert [name for name in read_column_names(path) if name] == ["a", "b"]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "metadata.jsonl"
    path.write_text('{"file_name": "a.jpg", "label": 1}\n\n{"file_name": "b.jpg", "text": null}\n')
    table = read_table(path)
    assert table.frame.to_dict("list") == {"file_name": ["a.jpg", "b.jpg"], "label": ["1", ""], "text": ["", ""]}
    assert table.lines.tolist() == [1, 3]
    path.write_text('{"file_name": "a.jpg"}\n[1]\n')
    with pytest.raises(InputError, match=r"metadata\.jsonl:2: is not a JSON object$"):
        read_table(path)


def test_json_list(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('[\n {"file": "a.jpg", "by": {"who": "x", "year": 5}},\n {"file": "b.jpg"}\n]\n')
    table = read_table(path)
    assert table.frame.to_dict("list") == {"file": ["a.jpg", "b.jpg"], "by.who": ["x", ""], "by.year": ["5", ""]}
    assert table.lines.tolist() == [2, 3]
    assert read_column_names(path) == ["file", "by.who", "by.year"]
    path.write_text('[\n {"file": "a.jpg"},\n {"file": \n')
    with pytest.raises(InputError, match=r"labels\.json:3: is not a JSON object$"):
        read_table(path)


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"image": ["a", "b"], "target": [1, None]}).to_parquet(path)
    assert read_table(path).frame.to_dict("list") == {"image": ["a", "b"], "target": ["1.0", ""]}
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"t\.parquet: cannot be read as a Parquet file \(.*\); save it as CSV$"):
        read_table(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"t\.parquet: is a Parquet file: pip install pyarrow, or save it as CSV$"):
        read_table(path)


def test_a_workbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    # A title, a legend and a table below, as PH2's; its second sheet is not read.
    for row in (("PH2", None), (None,), ("name", "Melanoma\n(X)", None), (7, "X", None), (None, None), (8, None, 2.5)):
        book.active.append(row)
    book.create_sheet("legend").append(("x", "y"))
    path = tmp_path / "t.xlsx"
    book.save(path)
    table = read_table(path)
    assert table.frame.to_dict("list") == {"name": ["7", "8"], "Melanoma (X)": ["X", ""], "Unnamed: 2": ["", "2.5"]}
    assert table.lines.tolist() == [4, 6]
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(
        InputError, match=r"t\.xlsx: cannot be read as an Excel workbook \(\.xlsx\) \(.*\); save it as CSV$"
    ):
        read_table(path)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert str(caught.value) == f"{path}: is an Excel workbook: pip install openpyxl, or save it as CSV"
    path.write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(
        InputError, match=r"t\.xlsx: is an Excel workbook of before 2007 \(\.xls\); save it as \.xlsx or CSV$"
    ):
        read_table(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.csv: no such file$"):
        read_table(tmp_path / "x.csv")
    with pytest.raises(InputError, match=r": is a folder, expected a CSV file$"):
        read_table(tmp_path)


def test_missing_column_and_its_likely_spelling() -> None:
    with pytest.raises(InputError) as caught:
        require_columns(Path("labels.csv"), ["image_name", "taget"], ["image_name", "target"])
    assert str(caught.value) == ("labels.csv: no column 'target'; columns are image_name, taget; did you mean 'taget'?")
    with pytest.raises(InputError, match=r"columns are x, y$"):
        require_columns(Path("labels.csv"), ["x", "y"], ["target"])


def test_no_nonsense_is_offered() -> None:
    assert nearest("target", ["age", "stage", "sex", "largest", "tart"]) is None
    assert nearest("lesion_id", ["session_id", "lesion_side"]) is None
    assert nearest("image_name", ["management", "image"]) is None
    assert nearest("image_name", ["Image_Name", "age"]) == "Image_Name"
    assert nearest("target", ["age", "targets"]) == "targets"


def test_formulas_stay_text_and_come_back(tmp_path: Path) -> None:
    """As spreadsheets take cells: OWASP, "CSV Injection"."""
    path = tmp_path / "t.csv"
    cells = [
        "=1+1",
        "+x",
        "-1.jpg",
        "@a",
        "\tx",
        "'=x",
        "''=x",
        "-12.3",
        "-1.2e-05",
        "+5",
        "-",
        "'plain",
        "it's",
        "a=b",
    ]
    write_csv(path, ["=head", "b"], [*([cell, "x"] for cell in cells), [-0.5, "x"]])
    first = [line.removesuffix(",x") for line in path.read_text().splitlines()]
    assert first == [
        "'=head,b",
        "'=1+1",
        "'+x",
        "'-1.jpg",
        "'@a",
        "'\tx",
        "''=x",
        "'''=x",
        "-12.3",
        "-1.2e-05",
        "+5",
        "-",
        "'plain",
        "it's",
        "a=b",
        "-0.5",
    ]
    table = read_table(path)
    assert list(table.frame["=head"]) == [*cells, "-0.5"]


@pytest.mark.parametrize("cell", ["a\rb", "a\nb", "a\r\nb", 'a"b', "\r"])
def test_cells_with_line_ends_come_back(tmp_path: Path, cell: str) -> None:
    """A file name may hold a carriage return."""
    write_csv(tmp_path / "a.csv", ["x", "y"], [(cell, "1"), ("plain", "2")])
    assert read_table(tmp_path / "a.csv").frame["x"].tolist() == [cell, "plain"]
    assert (tmp_path / "a.csv").read_bytes().endswith(b",1\nplain,2\n")


def test_a_name_that_is_not_utf8_is_written_as_its_bytes(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["x"], [(os.fsdecode(b"\xff.jpg"),)])
    assert (tmp_path / "a.csv").read_bytes() == b"x\n\xff.jpg\n"
