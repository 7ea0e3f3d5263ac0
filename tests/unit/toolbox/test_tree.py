"""Branches, merge and compose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.toolbox.parts import LostBlobs, a_branch, text_of
from toolbox.errors import FilesAway, ToolError
from toolbox.tree import FILE_BYTES_MAX, PATHS_MAX, Branch, Conflict, Edit, File, Merged, compose, merge

A, B, C = File("a", 0o644, 1), File("b", 0o644, 1), File("c", 0o755, 1)


async def test_a_branch_tells_what_became_different() -> None:
    branch = await a_branch({"kept": "1", "gone": "2", "other": "3"})
    await branch.write("new/file", b"4")
    await branch.write("other", b"5", 0o755)
    branch.delete("gone")
    changes = branch.changes()
    assert list(changes) == ["gone", "new/file", "other"]
    assert changes["gone"][1] is None
    assert changes["new/file"][0] is None
    assert [file and file.mode for file in changes["other"]] == [0o644, 0o755]
    assert branch.paths() == ("kept", "new/file", "other")
    assert await text_of(branch, "other") == "5"


async def test_a_path_set_back_is_no_change() -> None:
    branch = await a_branch({"a": "1", "b": "2"})
    await branch.write("a", b"other")
    await branch.write("a", b"1")
    branch.delete("b")
    await branch.write("b", b"2")
    await branch.write("c", b"3")
    branch.delete("c")
    assert branch.changes() == {}


async def test_a_missing_file_is_not_found() -> None:
    branch = await a_branch()
    with pytest.raises(ToolError) as refusal:
        await branch.read("nothing")
    assert refusal.value.code == "not_found"
    with pytest.raises(ToolError) as refusal:
        branch.delete("nothing")
    assert refusal.value.code == "not_found"


async def test_writes_outside_what_the_step_declared_are_refused() -> None:
    branch = await a_branch({"src/a": "1", "docs/x": "2"}, writes=("src/", "README.md"))
    await branch.write("src/deep/b", b"2")
    await branch.write("README.md", b"3")
    for path in ("src-evil/a", "docs/x", "README.md.bak"):
        with pytest.raises(ToolError, match=r"only src/, README\.md") as refusal:
            await branch.write(path, b"")
        assert refusal.value.code == "outside_writes"
    with pytest.raises(ToolError, match="may write only"):
        branch.delete("docs/x")
    assert list(branch.changes()) == ["README.md", "src/deep/b"]


async def test_a_read_only_branch_refuses_every_change() -> None:
    branch = (await a_branch({"a": "1"})).view()
    with pytest.raises(ToolError) as refusal:
        await branch.write("a", b"2")
    assert refusal.value.code == "read_only"
    with pytest.raises(ToolError, match="can't be changed"):
        branch.delete("a")


@pytest.mark.parametrize(("there", "path"), [("a", "a/b"), ("a", "a/b/c"), ("a/b", "a"), ("a/b/c", "a/b")])
async def test_a_path_is_never_a_file_and_a_folder(there: str, path: str) -> None:
    branch = await a_branch({there: "1"})
    with pytest.raises(ToolError) as refusal:
        await branch.write(path, b"")
    assert refusal.value.code == "path_collision"
    await branch.apply({there: None, path: Edit(b"")})
    assert branch.paths() == (path,)


async def test_edits_are_made_all_or_none() -> None:
    branch = await a_branch({"a": "1"}, writes=("a", "b"))
    with pytest.raises(ToolError):
        await branch.apply({"a": Edit(b"2"), "b": Edit(b"3"), "outside": Edit(b"4")})
    assert branch.changes() == {}


async def test_too_large_a_file_and_too_many_are_refused() -> None:
    branch = await a_branch()
    with pytest.raises(ToolError) as refusal:
        await branch.write("big", bytes(FILE_BYTES_MAX + 1))
    assert refusal.value.code == "too_large"
    await branch.apply({f"f{number}": Edit(b"") for number in range(PATHS_MAX)})
    with pytest.raises(ToolError) as refusal:
        await branch.write("one-more", b"")
    assert refusal.value.code == "too_many_paths"


async def test_a_lost_store_is_no_outcome_of_a_call() -> None:
    branch = Branch({"a": A}, LostBlobs())
    with pytest.raises(FilesAway):
        await branch.read("a")
    with pytest.raises(FilesAway):
        await branch.write("b", b"1")
    assert branch.paths() == ("a",)


def test_merge_takes_what_the_head_still_has_as_it_was() -> None:
    head = {"same": A, "gone": A, "kept": C}
    assert merge(head, {"same": (A, B), "gone": (A, None), "new": (None, C)}) == Merged(
        {"same": B, "kept": C, "new": C}
    )


def test_merge_of_what_the_head_already_has_is_nothing() -> None:
    head = {"a": B}
    assert merge(head, {"a": (A, B), "gone": (A, None)}) == Merged(head)


def test_any_conflict_merges_nothing_and_tells_all_paths() -> None:
    head = {"x": C, "y": C, "fine": A}
    assert merge(head, {"x": (A, B), "y": (None, B), "z": (A, None), "w": (A, B), "fine": (A, B)}) == Conflict(
        ("w", "x", "y")
    )


@pytest.mark.parametrize(("there", "path"), [("a", "a/b"), ("a/b/c", "a/b"), ("a/b", "a")])
def test_a_file_where_a_folder_is_needed_is_a_conflict(there: str, path: str) -> None:
    assert merge({there: A}, {path: (None, B)}) == Conflict((path,))


def test_a_file_may_become_a_folder_in_one_merge() -> None:
    assert merge({"a": A}, {"a": (A, None), "a/b": (None, B)}) == Merged({"a/b": B})


def test_a_head_grows_to_its_limit_only() -> None:
    head = {f"f{number}": A for number in range(PATHS_MAX)}
    assert merge(head, {"one-more": (None, A)}) == Conflict(("one-more",))


paths = st.sampled_from(["a", "b", "c", "d/e", "d/f"])
heads = st.dictionaries(paths, st.sampled_from([A, B, C]))


def difference(before: dict[str, File], after: dict[str, File]) -> dict[str, tuple[File | None, File | None]]:
    return {
        path: (before.get(path), after.get(path)) for path in {*before, *after} if before.get(path) != after.get(path)
    }


@given(heads, heads, heads)
def test_composed_changes_do_what_the_two_did(
    first: dict[str, File], second: dict[str, File], third: dict[str, File]
) -> None:
    composed = compose(difference(first, second), difference(second, third))
    assert composed == difference(first, third)
    assert merge(first, composed) == Merged(third)


@given(heads, heads, heads)
def test_a_merge_keeps_both_sides_or_says_where_not(
    base: dict[str, File], ours: dict[str, File], theirs: dict[str, File]
) -> None:
    mine, other = difference(base, ours), difference(base, theirs)
    clashes = {path for path in mine.keys() & other.keys() if mine[path] != other[path]}
    result = merge(ours, other)
    if clashes:
        assert result == Conflict(tuple(sorted(clashes)))
    else:
        assert isinstance(result, Merged)
        assert difference(base, result.head) == mine | other


@given(heads, heads)
def test_merging_twice_is_merging_once(base: dict[str, File], theirs: dict[str, File]) -> None:
    changes = difference(base, theirs)
    once = merge(base, changes)
    assert isinstance(once, Merged)
    assert merge(once.head, changes) == once
