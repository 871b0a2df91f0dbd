"""Every node has a help page that names its inputs, and quotes only errors that the code raises."""

import ast
import hashlib
import json
import re
from functools import cache
from pathlib import Path

from helpers.each import each
from helpers.paths import ROOT

DOCS = ROOT / "web" / "docs"
LANGUAGES = ("zh", "ja", "ko")
PAGES = sorted(DOCS.rglob("*.md"))
TRANSLATED = [page for page in PAGES if page.parent != DOCS]
IMAGES = sorted((DOCS / "images").iterdir())
PICTURES_IN_ALL = 1.5e6  # bytes
HEADINGS = ["Good settings", "When to use it", "Inputs", "Outputs", "Example", "Troubleshooting"]
REPOSITORY = "https://github.com/comfyui-varsr/ComfyUI-VARSR"


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def schemas():
    """Node id -> the call that makes its schema."""
    calls = [
        node
        for path in sorted((ROOT / "nodes").rglob("*.py"))
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
    ]
    return {
        word.value.value: call for call in calls for word in call.keywords if word.arg == "node_id"
    }


NODES = schemas()


@cache
def shared_inputs():
    """Functions of nodes/inputs.py and of the families' own inputs.py by name."""
    trees = map(tree_of, (ROOT / "nodes").rglob("inputs.py"))
    found = [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: node for node in found}


def input_names(node):
    """Names of the inputs that a schema makes, itself or by shared functions."""
    found = set()
    for part in ast.walk(node):
        shared = shared_inputs().get(ast.unparse(part).removeprefix("inputs."))
        if shared and isinstance(part, ast.Name | ast.Attribute):
            found |= input_names(shared)
        if not isinstance(part, ast.Call):
            continue
        called = shared_inputs().get(ast.unparse(part.func).removeprefix("inputs."))
        defaults = called.args.defaults if called else []
        found |= {value.value for value in (part.args or defaults)[:1] if is_text(value)}
    return found


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def node_of(page):
    """As ComfyUI looks for it: <node id>.md or <node id>/<language>.md."""
    return page.stem if page.parent == DOCS else page.parent.name


def page_of(node_id):
    return (DOCS / f"{node_id}.md").read_text(encoding="utf-8")


def section(text, heading):
    """What stands under a heading, up to the next one of its rank."""
    return sections(text)[heading]


def sections(text):
    """Heading -> what stands under it, in the page's order."""
    return dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", text, re.M | re.S))


def troubleshooting(page):
    """The last section in every language, whatever its heading."""
    return list(sections(page.read_text(encoding="utf-8")).values())[-1]


def shown(text):
    """Paths of the pictures that a page shows, from web/docs on."""
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)", text)
    return pictures + re.findall(r"<(?:img|video|source)[^>]*\ssrc=[\"']([^\"']+)", text)


@cache
def messages():
    """All texts of the code, with … for what is filled in."""
    paths = [*(ROOT / "nodes").rglob("*.py"), *(ROOT / "varsr_core").rglob("*.py")]
    found = []
    for path in paths:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
                found.append("".join(parts))
            elif is_text(node):
                found.append(node.value)
    return found


def test_nodes_and_their_inputs_are_found_in_the_source():
    assert len(NODES) >= 9
    assert input_names(NODES["VARSR_Decode"]) == {"model", "tokens"}
    assert {"seed", "top_k", "first_scale"} <= input_names(NODES["VARSR_Sample"])


@each("node_id", NODES)
def test_node_has_a_page(node_id):
    assert (DOCS / f"{node_id}.md").is_file()


@each("node_id", NODES)
def test_page_has_its_translations(node_id):
    assert {path.stem for path in (DOCS / node_id).glob("*")} == set(LANGUAGES)


@each("page", PAGES)
def test_page_belongs_to_a_node(page):
    assert node_of(page) in NODES


@each("node_id", NODES)
def test_page_has_its_sections(node_id):
    text = page_of(node_id)
    assert text.startswith("# ")
    found = [heading for heading in re.findall(r"^## (.*)$", text, re.M) if heading in HEADINGS]
    assert found == HEADINGS
    assert list(sections(text))[-1] == HEADINGS[-1]
    for heading in HEADINGS:
        assert section(text, heading).strip(), heading


@each("node_id", NODES)
def test_page_shows_an_example(node_id):
    assert f"](images/{node_id}.webp)" in section(page_of(node_id), "Example")


@each("node_id", NODES)
def test_page_is_titled_as_the_node(node_id):
    (title,) = (w.value.value for w in NODES[node_id].keywords if w.arg == "display_name")
    assert page_of(node_id).startswith(f"# {title}\n")


@each("node_id", NODES)
def test_page_names_the_inputs_of_the_source(node_id):
    told = section(page_of(node_id), "Inputs")
    assert not [name for name in input_names(NODES[node_id]) if f"- **{name}**" not in told]


@each("page", PAGES)
def test_quoted_errors_are_raised_somewhere(page):
    """Code at the start of a line of troubleshooting is a part of an error's text."""
    lines = troubleshooting(page).strip().splitlines()
    quoted = [
        quote
        for line in lines
        for quote in re.findall(r"`([^`]+)`", re.match(r"- ((?:`[^`]+`(?:, )?)*)", line)[1])
    ]
    assert quoted
    assert not [quote for quote in quoted if not any(quote in text for text in messages())]


@each("page", PAGES)
def test_pictures_of_the_page_exist(page):
    """ComfyUI looks for them from web/docs on, wherever the page lies."""
    pictures = shown(page.read_text(encoding="utf-8"))
    assert not [name for name in pictures if not (DOCS / name).is_file()]


@each("page", PAGES)
def test_page_shows_its_own_picture_and_no_other(page):
    node_id = node_of(page)
    assert shown(page.read_text(encoding="utf-8")) == [f"images/{node_id}.webp"]


def test_no_two_pictures_are_the_same():
    by_content = {}
    for path in IMAGES:
        by_content.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), []).append(path.name)
    assert not [names for names in by_content.values() if len(names) > 1]


def test_every_picture_is_shown_by_a_page_or_the_readme():
    texts = [path.read_text(encoding="utf-8") for path in PAGES]
    used = {Path(name).name for text in texts for name in shown(text)}
    used |= {Path(name).name for name in shown((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {path.name for path in IMAGES} == used


def test_pictures_are_small_enough_to_ship():
    assert sum(path.stat().st_size for path in IMAGES) <= PICTURES_IN_ALL


@each("page", TRANSLATED)
def test_translated_page_goes_along_with_the_english_one_line_by_line(page):
    """Same headings, items, rows, pictures, ids, values and numbers, each in its line."""
    lines = page.read_text(encoding="utf-8").splitlines()
    english_lines = page_of(node_of(page)).splitlines()
    assert [marker(line) for line in lines] == [marker(line) for line in english_lines]
    for line, english in zip(lines, english_lines, strict=True):
        assert kept(line) == kept(english), line
        assert numbers(line) >= numbers(english), line


def marker(line):
    """What makes a line a heading, an item, a row, a picture, code, a paragraph or nothing."""
    return re.match(r"#+ | *- |\d+\. |    |\||!|", line)[0], bool(line.strip())


def kept(line):
    """What is the same in every language: ids, option values, names of files, addresses."""
    code = re.fullmatch(r"    (.*)", line)
    return (
        set(re.findall(r"`([^`]*)`", line)),
        re.findall(r"\*\*([a-z_]+)\*\*", line),
        re.findall(r"\]\(([^)]*)\)", line),
        code and code[1],
    )


def numbers(line):
    """In digits, outside of code and addresses, but for what other languages say in words."""
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)|[\d.]+ billion|below 0", "", line, flags=re.I)
    return set(re.findall(r"\d(?:[\d.,x]*\d)?", prose))


@each("page", TRANSLATED)
def test_translated_page_calls_node_and_inputs_as_the_node_shows_them(page):
    path = ROOT / "locales" / page.stem / "nodeDefs.json"
    names = json.loads(path.read_text(encoding="utf-8"))[node_of(page)]
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {names['display_name']}\n")
    told = dict(re.findall(r"^- \*\*([a-z_0-9]+)\*\* ?(.*?) ?[^\w ]", text, re.M))
    shown = {name: given["name"] for name, given in names.get("inputs", {}).items()}
    for name, label in shown.items():
        assert told[name] == label or (told[name] == "" and label == name), name


@each("page", PAGES)
def test_links_of_the_page_are_whole_and_known(page):
    """A relative link would be one of ComfyUI's own page, so all are full addresses."""
    for link in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://"), link
        address, _, anchor = link.partition("#")
        if anchor:
            assert address == REPOSITORY
            assert anchor in headings_of_the_readme(), link


def headings_of_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in found}
