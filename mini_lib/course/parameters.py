"""A notebook's parameters from a YAML file and from NAME=VALUE, read as the notebook's annotations say.

What a text means is not YAML's guess: `TASKS: list[str] = []` in the cell tagged `parameters` makes two texts of
[2019, no], `SEED: int` makes 10 of 010. Whatever does not fit is refused, by name, before anything runs. From YAML only
plain data are taken: no tags, no anchors.
"""

import ast
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml

INTEGER = re.compile(r"[-+]?[0-9]{1,300}")
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
NONE = ("None", "null", "Null", "NULL", "~")
BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
HOME = re.compile(r"~[\w.-]*(?:[/\\]|$)")
SCALARS = ("None", "bool", "int", "float", "str", "anything")  # the narrower first: 3 is a number before it is a text
PHRASES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list, such as [a, b]",
    "dict": "a mapping, such as {a: 1, b: 2}",
    "None": "null",
    "anything": "a plain value",
}
TAKEN = "int, float, bool, str, list, list[str], dict, dict[str, float], None, and these joined by |,"
RESOLVER, TEXT = yaml.resolver.Resolver(), "tag:yaml.org,2002:str"
UNFIT = object()


class Plain(str):
    """A text without quotes around it: the annotation says what it means. A text in quotes is a text, a str."""


def annotations(notebook: str | Path) -> dict[str, ast.expr | None]:
    """The parameters that a notebook assigns in its cell tagged `parameters`, with their annotations; None without one.

    Raises ValueError where the file is no notebook, or the cell no Python.
    """
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except OSError:
        raise
    except Exception as error:  # on a file of another kind nbformat fails in many ways
        raise ValueError(f"{notebook} cannot be read as a notebook ({type(error).__name__}).") from error
    source = next((cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])), "")
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"the cell of {notebook} tagged 'parameters' is no plain Python: {error}.") from error
    known: dict[str, ast.expr | None] = {}
    for statement in statements:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            known[statement.target.id] = statement.annotation
        elif isinstance(statement, ast.Assign):
            known |= {target.id: None for target in statement.targets if isinstance(target, ast.Name)}
    return known


def load_parameters(notebook: str | Path, file: str | Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The parameters in a YAML file and in `changes` ("NAME=VALUE"), of the notebook's types.

    A VALUE is taken as it is typed; where a list or a mapping may stand, [a, b] and {a: 1} are read as YAML. A text that
    starts with ~ or ~user starts in that home. Raises ValueError with the parameter, what was given and what is wanted;
    for a name that the notebook does not know or that comes twice; for a file that is more than plain data.
    """
    known = annotations(notebook)
    given = from_file(file)
    _only_known(given, known, notebook, str(file))
    parameters = {name: convert(value, known[name], f"{file}: {name}") for name, value in given.items()}
    changed: dict[str, str] = {}
    for change in changes:
        name, sign, value = change.partition("=")
        if not sign:
            raise ValueError(f"{change!r} is no change of a parameter: write NAME=VALUE.")
        if name in changed:
            raise ValueError(f"{name} is given twice: {name}={changed[name]} and {change}.")
        changed[name] = value
    _only_known(changed, known, notebook, "NAME=VALUE")
    return parameters | {
        name: convert(_typed(name, text, known[name]), known[name], name) for name, text in changed.items()
    }


def _only_known(given, known, notebook, where):
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"{where}: unknown parameters {unknown}. {Path(notebook).name} knows {sorted(known)}.")


def from_file(file: str | Path) -> dict[str, Any]:
    """What a YAML file maps names to: lists, mappings and texts, those without quotes as `Plain`.

    Raises ValueError for a file that is no YAML in UTF-8, no mapping, or not plain.
    """
    try:
        text = Path(file).read_text(encoding="utf-8-sig")  # Windows puts a mark in front
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no YAML file: it is not written in UTF-8. Save it anew, in UTF-8.") from error
    try:
        given, _ = _parse(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is no YAML file: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise ValueError(f"{file} is no YAML file of plain data: {error}") from error
    if given in (None, ""):
        return {}
    if not isinstance(given, dict):
        raise ValueError(f"{file} must map parameter names to values, one a line: NAME: value.")
    return given


def _parse(text):
    """The lists, mappings and texts of a YAML text, None where there are none, and where they end in it."""
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            mark = f"line {event.start_mark.line + 1}"
            if getattr(event, "tag", None):
                raise ValueError(f"{mark} has the tag {event.tag}; write the value without it.")
            if getattr(event, "anchor", None):
                raise ValueError(f"{mark} has an anchor or an alias, {event.anchor}; write the value itself.")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        return (None, 0) if root is None else (_tree(root), root.end_mark.index)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply.") from None


def _tree(node):
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.style else Plain(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_tree(item) for item in node.value]
    mapping = {}
    for key, value in node.value:
        where = f"line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or (key.value == "<<" and not key.style):
            raise ValueError(f"in {where} stands a name that is no text.")
        if key.value in mapping:
            raise ValueError(f"{key.value} is given twice, the second time in {where}.")
        mapping[key.value] = _tree(value)
    return mapping


def _typed(name, text, annotation):
    """What is typed behind NAME=, as `from_file` gives it."""
    kinds = _kinds(annotation, name)
    if text.lstrip()[:1] in ("[", "{") and {"list", "dict", "anything"} & kinds.keys():
        try:
            given, end = _parse(text)
        except (ValueError, yaml.YAMLError) as error:
            what = " ".join(str(error).split())
            raise ValueError(f"'{name}={text}' is no change of a parameter: its value is no YAML: {what}") from error
        if end < len(text.rstrip()):
            raise ValueError(f"'{name}={text}' is no change of a parameter: more follows its closing bracket.")
        return given
    if not text or (text == "~" and "str" in kinds and "None" not in kinds):
        return text  # an empty text; the home folder
    return Plain(text)


def convert(given: Any, annotation: ast.expr | None, place: str) -> Any:
    """What `from_file` gave, as the type that the annotation names; where there is none, as what it looks like.

    Raises ValueError with the place, what is given and what is wanted.
    """
    kinds = _kinds(annotation, place)
    if isinstance(given, list) and kinds.keys() & {"list", "anything"}:
        return [convert(one, kinds.get("list"), f"{place}[{i}]") for i, one in enumerate(given)]
    if isinstance(given, dict) and kinds.keys() & {"dict", "anything"}:
        return {_text(key, place): convert(one, kinds.get("dict"), f"{place}[{key!r}]") for key, one in given.items()}
    if isinstance(given, str):
        for kind in SCALARS:
            if kind in kinds and (value := _scalar(given, kind, place)) is not UNFIT:
                return value
    wanted = " or ".join(PHRASES[kind] for kind in kinds)
    name = f" ({ast.unparse(annotation)})" if annotation else ""
    hint = ""
    if isinstance(given, Plain) and "str" in kinds:
        hint = ": leave it empty if none is meant"
    elif isinstance(given, str) and not isinstance(given, Plain) and given:
        hint = ", a text in quotes"
    raise ValueError(f"{place} must be {wanted}{name}, not {given!r:.80}{hint}.")


def _kinds(annotation, place):
    """The kinds of values that an annotation admits -> the annotation of what they hold, None where it does not say."""
    match annotation:
        case None:
            return {"anything": None}
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _kinds(left, place) | _kinds(right, place)
        case ast.Constant(value=None):
            return {"None": None}
        case ast.Name(id="int" | "float" | "bool" | "str" | "list" | "dict" as kind):
            return {kind: None}
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return {"list": item}
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[ast.Name(id="str"), item])):
            return {"dict": item}
    raise ValueError(f"{place} is annotated {ast.unparse(annotation)} in the notebook, and only {TAKEN} can be given.")


def _scalar(given, kind, place):
    """A text as a value of this kind, UNFIT where it is none."""
    if kind == "str":
        return UNFIT if isinstance(given, Plain) and given in NONE else _from_home(given, place)
    if kind == "anything":
        return _by_its_looks(given, place)
    if not isinstance(given, Plain):
        return UNFIT
    if kind == "None" and given in (*NONE, ""):
        return None
    if kind == "bool" and given.lower() in BOOLEANS:
        return BOOLEANS[given.lower()]
    if kind == "int" and INTEGER.fullmatch(given):
        return int(given)
    if kind == "float" and NUMBER.fullmatch(given) and math.isfinite(float(given)):
        return float(given)
    return UNFIT


def _by_its_looks(given, place):
    """A text where no annotation helps, such as a value in a `dict`: refused where YAML's versions disagree about it."""
    for kind in ("None", "int", "float"):
        if (value := _scalar(given, kind, place)) is not UNFIT:
            return value
    if isinstance(given, Plain) and RESOLVER.resolve(yaml.ScalarNode, given, (True, False)) != TEXT:
        if given.lower() not in ("true", "false"):
            raise ValueError(
                f"{place}: {given} can mean two things. Write {given!r} for the text, or true, false, 10, 0.1."
            )
        return BOOLEANS[given.lower()]
    return _from_home(given, place)


def _text(given, place):
    try:
        given.replace("\0", "\ud800").encode("utf-8")  # no name of a file can hold a NUL, either
    except UnicodeEncodeError as error:
        raise ValueError(f"{place} holds bytes that are no text: {given!r:.80}.") from error
    return str(given)


def _from_home(given, place):
    """A text, with the folder in the place of a ~ or ~user that a path starts with."""
    text = _text(given, place)
    expanded = os.path.expanduser(text) if HOME.match(text) else text
    if HOME.match(expanded):
        raise ValueError(f"{place} is {text!r:.80}, and there is no such home folder; a name may start so behind ./")
    return expanded
