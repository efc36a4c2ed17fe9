"""Files of decisions: as browsers, spreadsheets and people write them."""

import pandas as pd
import polars as pl
import pytest

from sknonlin._review.decisions import places_in, read_decisions

HEADER = "index,given,suggested,decision,label\n"


def written(folder, text, encoding="utf-8"):
    path = folder / "decisions.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_files_of_spreadsheets(tmp_path, encoding, delimiter, line_end):
    text = f'{HEADER}3,ä,b,suggested,b\n1.0,"c",c,skip,\n'
    text = text.replace(",", delimiter).replace("\n", line_end)
    first, second = read_decisions(written(tmp_path, text, encoding))
    assert (first.index, first.given, first.label, first.is_kept) == (3, "ä", "b", False)
    assert (second.index, second.label, second.place) == (1, None, "line 3")


def test_cells_with_lines_and_quotes(tmp_path):
    text = f'{HEADER}0,"a ""b"",\r\nc",x,keep,"a ""b"",\r\nc"\r\n'
    (decision,) = read_decisions(str(written(tmp_path, text)))
    assert decision.given == decision.label == 'a "b",\r\nc'
    assert decision.is_kept


def test_frames_and_files_are_the_same(tmp_path):
    path = written(tmp_path, f"{HEADER}2,1,0,suggested,0\n1,1,0,skip,\n")
    from_file = read_decisions(path)
    from_frame = read_decisions(pd.read_csv(path))
    assert [d.index for d in read_decisions(pl.read_csv(path))] == [2, 1]
    assert [d.index for d in from_file] == [d.index for d in from_frame] == [2, 1]
    assert [float(d[0].label) for d in (from_file, from_frame)] == [0, 0]
    assert from_frame[1].label is from_file[1].label is None


def test_other_tools_write_no_decision(tmp_path):
    text = "annotator,index,given,label\n1,4,a,b\n1,5,a,\n"
    assert [d.label for d in read_decisions(written(tmp_path, text))] == ["b", None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index,label\n", "no column 'given'; it has"),
        ("", "no column 'index', 'given', 'label'"),
        (f"{HEADER}one,a,b,keep,a\n", "line 2: the index 'one' is not a whole number"),
        (f"{HEADER}1.5,a,b,keep,a\n", "'1.5' is not a whole number"),
        (f"{HEADER}inf,a,b,keep,a\n", "'inf' is not a whole number"),
        (f"{HEADER},a,b,keep,a\n", "'' is not a whole number"),
        (f"{HEADER}1,a,b,maybe,a\n", "the decision 'maybe' is none of"),
        (f"{HEADER}1,a,b,other,\n", "label is empty, but the decision is 'other'"),
        (f'{HEADER}1,a,b,keep,"a\n', "is not a CSV file"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_decisions(written(tmp_path, text))


def test_what_is_no_file_of_text(tmp_path):
    path = written(tmp_path, f"{HEADER}1,ä,b,keep,ä\n", "latin-1")
    with pytest.raises(ValueError, match="Save it in the spreadsheet program"):
        read_decisions(path)
    with pytest.raises(TypeError, match="decisions is a list; give the path"):
        read_decisions([1])
    with pytest.raises(FileNotFoundError):
        read_decisions(tmp_path / "missing.csv")


def frame_of(index, rows=None):
    columns = {"index": index, "given": "a", "label": "b"}
    return read_decisions(pd.DataFrame(columns | ({} if rows is None else {"row": rows})))


def test_places_by_position_and_by_row():
    assert places_in(None, 3, frame_of([2, 0])) == [2, 0]
    assert places_in(None, 3, frame_of([2, 0], ["x", "y"])) == [2, 0]
    index = pd.Index(["=p", "q", "r"])
    assert places_in(index, 3, frame_of([2, 0], ["r", "'=p"])) == [2, 0]
    assert places_in(index[::-1], 3, frame_of([2, 0], ["r", "'=p"])) == [0, 2]
    assert places_in(index[:2], 2, frame_of([2], ["q"])) == [1]
    dates = pd.date_range("2020-01-01", periods=3)
    assert places_in(dates[::-1], 3, frame_of([0], [str(dates[0])])) == [2]


@pytest.mark.parametrize(
    ("y_index", "index", "rows", "message"),
    [
        (None, [3, 7, -1], None, "indices that y does not have: -1, 3, 7; y has 3"),
        (pd.Index(["p", "q", "r"]), [0], ["z"], "no rows z in its index.*column 'row'"),
        (pd.Index(["p", "p", "r"]), [0], ["r"], "several rows of one label"),
    ],
)
def test_places_that_are_not_there(y_index, index, rows, message):
    with pytest.raises(ValueError, match=message):
        places_in(y_index, 3, frame_of(index, rows))
