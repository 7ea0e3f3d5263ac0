"""The file tools, called as a model calls them."""

from typing import Any

import pytest

from tests.unit.toolbox.parts import a_branch, text_of, use
from toolbox.errors import ToolError
from toolbox.files import delete_file, edit_file, list_files, read_file, search_files, write_file
from toolbox.tool import OUTPUT_BYTES_MAX, Tool

POEM = "one\ntwo\nthree\nfour\n"


async def test_a_file_is_read_as_it_is() -> None:
    assert (await use(read_file, await a_branch({"p": POEM}), path="p")).text == POEM


async def test_a_part_of_a_file_says_where_to_go_on() -> None:
    output = await use(read_file, await a_branch({"p": POEM}), path="p", offset=2, limit=2)
    assert output.text == "two\nthree\n\n[lines 2-3 of 4; go on with offset 4]"


async def test_a_long_file_is_read_in_whole_lines() -> None:
    branch = await a_branch({"p": "".join(f"{number:05}{'x' * 94}\n" for number in range(1000))})
    first = (await use(read_file, branch, path="p", limit=2000)).text
    assert len(first.encode()) <= OUTPUT_BYTES_MAX
    assert "[cut here" not in first
    offset = int(first.rstrip("]").rpartition(" ")[2])
    second = (await use(read_file, branch, path="p", offset=offset)).text
    assert second.startswith(f"{offset - 1:05}x")


async def test_an_empty_file_reads_empty() -> None:
    assert (await use(read_file, await a_branch({"p": ""}), path="p")).text == ""


async def test_bytes_that_are_no_text_are_refused() -> None:
    branch = await a_branch()
    await branch.write("p", b"\xff\xfe\0")
    with pytest.raises(ToolError) as refusal:
        await use(read_file, branch, path="p")
    assert refusal.value.code == "not_text"


async def test_writing_twice_is_writing_once() -> None:
    branch = await a_branch()
    for _ in range(2):
        await use(write_file, branch, path="./src/a.py", content="print('ü')\n", executable=True)
    assert await text_of(branch, "src/a.py") == "print('ü')\n"
    entry = branch.entry("src/a.py")
    assert entry is not None
    assert entry.mode == 0o755


async def test_writing_over_a_program_leaves_it_one() -> None:
    branch = await a_branch()
    await branch.write("p", b"1", 0o755)
    await use(write_file, branch, path="p", content="2")
    entry = branch.entry("p")
    assert entry is not None
    assert entry.mode == 0o755


async def test_an_edit_replaces_one_place() -> None:
    branch = await a_branch({"p": POEM})
    output = await use(edit_file, branch, path="p", old="three\n", new="THREE\n")
    assert output.text == "edited p, line 3"
    assert await text_of(branch, "p") == POEM.replace("three", "THREE")


@pytest.mark.parametrize(("old", "words"), [("o", "3 times"), ("nine", "0 times"), ("", "old: Expected")])
async def test_an_edit_of_no_place_or_several_is_refused(old: str, words: str) -> None:
    branch = await a_branch({"p": POEM})
    with pytest.raises(ToolError, match=words):
        await use(edit_file, branch, path="p", old=old, new="x")
    assert branch.changes() == {}


async def test_delete_and_list() -> None:
    branch = await a_branch({"src/a.py": "1", "src/b.py": "22", "doc.md": "333"})
    await use(delete_file, branch, path="src/a.py")
    assert (await use(list_files, branch)).text == "doc.md\t3\nsrc/b.py\t2"
    assert (await use(list_files, branch, glob="*.py")).data == {"count": 1}
    assert (await use(list_files, branch, glob="*.rs")).text == "no file fits '*.rs'"


async def test_search_takes_the_pattern_literally() -> None:
    branch = await a_branch({"a.py": "x = f(1)\ny = F(2)\n", "b.md": "f(1)\n"})
    assert (await use(search_files, branch, pattern="f(")).text == "a.py:1: x = f(1)\nb.md:1: f(1)"
    assert (await use(search_files, branch, pattern="F(", glob="*.py", ignore_case=True)).text == (
        "a.py:1: x = f(1)\na.py:2: y = F(2)"
    )
    assert (await use(search_files, branch, pattern="(a+)+$")).text == "no line contains '(a+)+$'"


async def test_search_stops_where_it_is_too_much() -> None:
    text = (await use(search_files, await a_branch({"a": "x\n" * 5000}), pattern="x")).text
    assert text.splitlines()[-1] == "[more than 200 lines; narrow the glob or the pattern]"
    assert len(text.splitlines()) == 201


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        (read_file, {}),
        (write_file, {"content": "x"}),
        (edit_file, {"old": "a", "new": "b"}),
        (delete_file, {}),
    ],
)
@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a\0b", "~/.ssh/id", "/proc/self/root/etc/shadow"])
async def test_no_tool_takes_a_path_out_of_the_files(tool: Tool, arguments: dict[str, Any], path: str) -> None:
    with pytest.raises(ToolError) as refusal:
        await use(tool, await a_branch(), path=path, **arguments)
    assert refusal.value.code == "bad_path"
