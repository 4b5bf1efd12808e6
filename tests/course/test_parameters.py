"""Parameters mean what the notebook's annotations say, from a file and from the command line; the rest is refused."""

import os
from pathlib import Path

import nbformat
import pytest

from mini_lib.course.execute import run_with_papermill
from mini_lib.course.parameters import load_parameters

CELL = """\
N: int = 3  # a number = 3
RATE: float | None = None
FLAG: bool = False
TEXT: str = ""
MAYBE: str | None = None
EITHER: int | str = 0
TASKS: list[str] = []
RATES: float | dict[str, float] = 1e-3
DEEP: dict[str, list[int]] = {}
MORE: dict = {}
BARE: list = []
ANY = 3
ODD: tuple = ()"""


def notebook(folder, cell=CELL, *cells):
    code = nbformat.v4.new_code_cell
    path = folder / "small.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [code(cell, metadata={"tags": ["parameters"]}), *map(code, cells)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


@pytest.fixture
def read(tmp_path):
    """Parameters from the text (or bytes) of a file, and from changes."""

    def read(text="", *changes):
        file = tmp_path / "p.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_parameters(notebook(tmp_path), file, changes)

    return read


HOME = os.path.expanduser("~")
TYPED = [
    ("N", "010", 10),
    ("N", "-5", -5),
    ("N", "+5", 5),
    ("N", "0", 0),
    ("RATE", "1e-3", 0.001),
    ("RATE", "3", 3.0),
    ("RATE", ".5", 0.5),
    ("RATE", "1.", 1.0),
    ("RATE", "-1E+3", -1000.0),
    ("RATE", "None", None),
    ("RATE", "null", None),
    ("RATE", "~", None),
    ("MAYBE", "~", None),
    ("MAYBE", "none", "none"),
    ("MAYBE", "", ""),
    ("FLAG", "true", True),
    ("FLAG", "False", False),
    ("FLAG", "yes", True),
    ("FLAG", "off", False),
    ("TEXT", "yes", "yes"),
    ("TEXT", "no", "no"),
    ("TEXT", "on", "on"),
    ("TEXT", "true", "true"),
    ("TEXT", "1e3", "1e3"),
    ("TEXT", "2019", "2019"),
    ("TEXT", "010", "010"),
    ("TEXT", "null-ish folder", "null-ish folder"),
    ("TEXT", "none", "none"),
    ("TEXT", "#1", "#1"),
    ("TEXT", "/x/o #2", "/x/o #2"),
    ("TEXT", "[a]", "[a]"),
    ("TEXT", "{a: 1}", "{a: 1}"),
    ("TEXT", " a ", " a "),
    ("TEXT", "a: b", "a: b"),
    ("TEXT", "'a'", "'a'"),
    ("TEXT", "a=b", "a=b"),
    ("TEXT", "", ""),
    ("TEXT", "2020-01-01", "2020-01-01"),
    ("TEXT", "1:30", "1:30"),
    ("TEXT", "!!set {a}", "!!set {a}"),
    ("TEXT", "&a", "&a"),
    ("TEXT", "Übung [1]/a%20b/{x}", "Übung [1]/a%20b/{x}"),
    ("TEXT", r"C:\new", r"C:\new"),
    ("TEXT", "nan", "nan"),
    ("TEXT", "~", HOME),
    ("TEXT", "~/x", f"{HOME}/x"),
    ("TEXT", "./~", "./~"),
    ("TEXT", "~ 2 hours", "~ 2 hours"),
    ("EITHER", "3", 3),
    ("EITHER", "3.0", "3.0"),
    ("EITHER", "three", "three"),
    ("TASKS", "[2019,no]", ["2019", "no"]),
    ("TASKS", "[]", []),
    ("TASKS", "[~/a, 'null', 1:30]", [f"{HOME}/a", "null", "1:30"]),
    ("TASKS", "[2020-01-01, 0x10, .inf]", ["2020-01-01", "0x10", ".inf"]),
    ("TASKS", "[a#1, '#2']", ["a#1", "#2"]),
    ("RATES", "1e-3", 0.001),
    ("RATES", "{a: 5e-5, 2019: 1, no: .1}", {"a": 5e-5, "2019": 1.0, "no": 0.1}),
    ("DEEP", "{a: [1, 010]}", {"a": [1, 10]}),
    ("ANY", "[1, a]", [1, "a"]),
    ("ANY", "3", 3),
    ("ANY", "a b", "a b"),
    (
        "MORE",
        "{a: true, b: 1e-3, c: {d: [1, null, x, '1', 'yes']}}",
        {"a": True, "b": 0.001, "c": {"d": [1, None, "x", "1", "yes"]}},
    ),
    ("BARE", "[2019, x]", [2019, "x"]),
]


@pytest.mark.parametrize("name, text, value", TYPED)
def test_typed(read, name, text, value):
    found = read("", f"{name}={text}")
    assert repr(found) == repr({name: value})  # 1 and 1.0 and True are equal, and not the same


@pytest.mark.parametrize(
    "text, value",
    [
        ("TEXT: yes", {"TEXT": "yes"}),
        ("TEXT: 2019 # a year", {"TEXT": "2019"}),
        ("TEXT:", {"TEXT": ""}),
        ("TEXT: '~/x'", {"TEXT": f"{HOME}/x"}),
        ("TEXT: 'null'", {"TEXT": "null"}),
        ("TEXT: |\n  a\n  b\n", {"TEXT": "a\nb\n"}),
        ("MAYBE:", {"MAYBE": None}),
        ("MAYBE: ''", {"MAYBE": ""}),
        ("MAYBE: 'None'", {"MAYBE": "None"}),
        ("RATE: null", {"RATE": None}),
        ("N: 010", {"N": 10}),
        ("TASKS:\n- 2019\n- no", {"TASKS": ["2019", "no"]}),
        ("TASKS: [Übung]  # für ä", {"TASKS": ["Übung"]}),
        ("RATES:\n  a: 1e-4", {"RATES": {"a": 1e-4}}),
        ("", {}),
        ("# only a remark, ü", {}),
        ("---\n", {}),
        (b"\xef\xbb\xbfN: 3", {"N": 3}),
        (b"N: 3\r\nTEXT: a\r\n", {"N": 3, "TEXT": "a"}),
    ],
)
def test_from_a_file(read, text, value):
    assert repr(read(text)) == repr(value)


def test_the_command_line_changes_the_file(read):
    assert read("N: 1\nTEXT: a", "N=2", "FLAG=on") == {"N": 2, "TEXT": "a", "FLAG": True}


@pytest.mark.parametrize(
    "change, words",
    [
        *(
            (f"N={text}", f"N must be a whole number (int), not {text!r}")
            for text in (
                "1.0",
                "1e3",
                "0x10",
                "0o10",
                "1_000",
                "1:30",
                "true",
                "None",
                "~",
                "nan",
                "",
                " 3",
                "٣",
                "three",
            )
        ),
        *(
            (f"RATE={text}", f"RATE must be a number or null (float | None), not {text!r}")
            for text in (".inf", "nan", "inf", "1e999", "1_0.0", "1:30.5", "true", "", "1,5", "[1]")
        ),
        *((f"FLAG={text}", f"FLAG must be true or false (bool), not {text!r}") for text in ("1", "0", "None", "", "y")),
        *(
            (f"TEXT={text}", f"TEXT must be a text (str), not {text!r}: leave it empty if none is meant")
            for text in ("None", "null", "NULL")
        ),
        ("TASKS=digits", "TASKS must be a list, such as [a, b] (list[str]), not 'digits'"),
        ("TASKS=", "TASKS must be a list"),
        ("TASKS={a: b}", "TASKS must be a list"),
        ("TASKS=[a, null]", "TASKS[1] must be a text"),
        ("TASKS=[[a]]", "TASKS[0] must be a text (str), not ['a']"),
        ("TASKS=[a] # b", "more follows its closing bracket"),
        ("TASKS=[a", "its value is no YAML"),
        ("TASKS=[a #1, b]", "its value is no YAML"),
        ("TASKS=[!!str a]", "has the tag"),
        ("TASKS=[&a x, *a]", "has an anchor"),
        ("RATES={a: high}", "RATES['a'] must be a number (float), not 'high'"),
        ("RATES={a:1}", "RATES['a:1'] must be a number"),
        ("RATES={a: 1, a: 2}", "a is given twice"),
        ("RATES={a: '1'}", "RATES['a'] must be a number (float), not '1', a text in quotes"),
        ("RATES={<<: {a: 1}}", "a name that is no text"),
        ("RATES={[a]: 1}", "a name that is no text"),
        ("DEEP={a: [1, 2.0]}", "DEEP['a'][1] must be a whole number (int), not '2.0'"),
        *(
            (f"MORE={{a: {text}}}", f"MORE['a']: {text} can mean two things. Write '{text}' for the text")
            for text in ("yes", "No", "off", "0x10", "1_000", "1:30", ".inf", "2020-01-01")
        ),
        ("BARE=[2019, no]", "BARE[1]: no can mean two things"),
        ("ANY=on", "ANY: on can mean two things"),
        ("TEXT=~nobody-here/x", "TEXT is '~nobody-here/x', and there is no such home folder"),
        ("TEXT=a\udcffb", "TEXT holds bytes that are no text"),
        ("ODD=[1]", "ODD is annotated tuple in the notebook, and only int,"),
        ("n=1", "unknown parameters ['n']. small.ipynb knows ['ANY',"),
        ("N =1", "unknown parameters ['N ']"),
        ("N", "write NAME=VALUE"),
    ],
)
def test_refused_by_name(read, change, words):
    with pytest.raises(ValueError) as caught:
        read("", change)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_twice_on_the_command_line(read):
    with pytest.raises(ValueError, match="N is given twice: N=1 and N=2"):
        read("", "N=1", "TEXT=a", "N=2")


@pytest.mark.parametrize(
    "text, words",
    [
        ("N: 1\nTEXT: a\nN: 2", "N is given twice, the second time in line 3"),
        ("MORE: {a: 1, b: {c: 1, c: 2}}", "c is given twice"),
        ("N: 1.0", "p.yaml: N must be a whole number (int), not '1.0'"),
        ("N: '3'", "not '3', a text in quotes"),
        ("TEXT: ~", "TEXT must be a text (str), not '~': leave it empty"),
        ("TEXT: [a]", "TEXT must be a text (str), not ['a']"),
        ("N: !!set {1}", "line 1 has the tag tag:yaml.org,2002:set"),
        ("MORE: {a: !!binary aGk=}", "has the tag"),
        ("MORE: !!omap [a: 1]", "has the tag"),
        ("TEXT: !!timestamp 2020-01-01", "has the tag"),
        ("N: !!int 3", "has the tag"),
        ("TEXT: !!python/name:os.system", "has the tag"),
        ("A: !!python/object/apply:os.getcwd []", "is no YAML file"),
        ("TEXT: ! a", "has the tag !"),
        ("%TAG ! tag:x,2000:\n---\nTEXT: !a b", "has the tag tag:x,2000:a"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nTASKS: [*b, *b]", "line 1 has an anchor or an alias, a"),
        ("A b: 1", "unknown parameters ['A b']"),
        ("1: 2", "unknown parameters ['1']"),
        ("- a", "must map parameter names"),
        ("null", "must map parameter names"),
        ("N: 1\n---\nN: 2", "expected a single document"),
        ("[" * 3000, "is no YAML file"),
        ('TEXT: "\\ud800"', "bytes that are no text"),
        ('TEXT: "a\\0b"', "bytes that are no text"),  # which no path can hold
        ("N: 3".encode("utf-16"), "not written in UTF-8. Save it anew, in UTF-8"),
        ("TEXT: Übung".encode("latin-1"), "not written in UTF-8"),
        ("N: 3".encode("utf-16-le"), "is no YAML file"),
        (b"\x00\x01", "is no YAML file"),
        ("N: [1", "is no YAML file"),
    ],
)
def test_files_that_are_refused(read, text, words):
    with pytest.raises(ValueError) as caught:
        read(text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_notebooks(tmp_path):
    (tmp_path / "p.yaml").touch()
    for text in ("", "no notebook", "[]", '{"cells": 3, "nbformat": 4, "nbformat_minor": 5}'):
        (tmp_path / "a.ipynb").write_text(text)
        with pytest.raises(ValueError, match="a.ipynb cannot be read as a notebook"):
            load_parameters(tmp_path / "a.ipynb", tmp_path / "p.yaml")
    with pytest.raises(ValueError, match="tagged 'parameters' is no plain Python"):
        load_parameters(notebook(tmp_path, "%matplotlib inline"), tmp_path / "p.yaml")
    with pytest.raises(FileNotFoundError):
        load_parameters(tmp_path / "none.ipynb", tmp_path / "p.yaml")


PAYLOAD = "\"; open('ran', 'w'); \"\n'); open('ran', 'w') #"


def test_texts_reach_the_kernel_as_they_are(read, tmp_path):
    """Papermill writes parameters as code: what is in them must stay a text."""
    texts = [
        PAYLOAD,
        "\\",
        '\\"',
        "'",
        '"',
        "\\n",
        "a\nb\r\tc",
        "{x}",
        "{{x}}",
        "%s",
        "ä€𝄞",
        "\x85\u2028\u2029\x7f\x01",
        "#a",
        '"""',
    ]
    given = read("", *(f"TEXT={PAYLOAD}", "RATE=1e-7", "N=-3", "FLAG=true", "MAYBE=None"))
    given |= {"TASKS": texts, "MORE": {text: [text, {text: None}] for text in texts}}
    path = notebook(tmp_path, CELL, "print(repr([TEXT, RATE, N, FLAG, MAYBE, TASKS, MORE]))")
    done = run_with_papermill(path, tmp_path / "done.ipynb", parameters=given, cwd=str(tmp_path))
    assert (
        done.cells[-1].outputs[0].text
        == repr([given[name] for name in ("TEXT", "RATE", "N", "FLAG", "MAYBE", "TASKS", "MORE")]) + "\n"
    )
    assert not (tmp_path / "ran").exists() and not Path("ran").exists()
