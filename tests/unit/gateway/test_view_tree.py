"""The live tree: what a watcher sees at each point of a story, in 80 and 120 columns, in Unicode and ASCII."""

from collections.abc import Iterator
from textwrap import dedent

import pytest

from events.envelope import structured
from events.run import RunCanceled, RunCancelRequested, RunFailed, RunPaused, RunResumed, RunSucceeded
from gateway.view.board import Board, event_of, event_of_record
from gateway.view.fold import take
from gateway.view.lines import event_line, notable
from gateway.view.paint import Look, line_width, paint
from gateway.view.text import ago
from gateway.view.tree import tree
from tests.history import History
from tests.stories import Story, approval_of

PLAIN = Look()


def board_of(story: Story) -> Board:
    board = Board(run=story.history.address.run)
    for record in story.history.records:
        board = take(board, event_of_record(record))
    return board


def drawn(story: Story, columns: int = 80, *, rows: int = 0, look: Look = PLAIN) -> str:
    lines = tree(board_of(story), now_ms=story.history.now_ms + 1_000, columns=columns, rows=rows, look=look)
    assert all(line_width(line) <= columns for line in lines)
    assert not rows or len(lines) <= rows
    return "\n".join(paint(line, look) for line in lines)


def picture(text: str) -> str:
    return dedent(text).strip("\n")


@pytest.fixture
def story() -> Story:
    return Story(History())


def test_at_the_start_everything_waits(story: Story) -> None:
    assert drawn(story) == picture("""
        Build a small app
        run_1  software, model scripted-1

         ◌ analyze   ready
         ◌ backend   waits for analyze
         ◌ frontend  waits for analyze
         ◌ review    waits for backend, frontend
         ◌ ship      waits for review

         ◌ queued · 0/5 steps · 1.0 s · 0 model calls · 0 tool calls
        """)


def test_steps_at_once_show_what_each_of_them_does(story: Story) -> None:
    story.start()
    story.begin("analyze", "analyst")
    story.tick("analyze", 1)
    story.succeed("analyze", artifacts={"docs/spec.md": "x"})
    story.begin("backend")
    story.begin("frontend", "frontend")
    story.turn("backend", 1, calls=2)
    story.turn("frontend", 1)
    assert drawn(story) == picture("""
        Build a small app
        run_1  software, model scripted-1

         ✓ analyze   done: analyze is done                                         1.8 s
         ● backend   turn 1, 2 calls at once                                       3.5 s
           ├ ● write_file(path="a.py", text="print(1)")
           └ ● write_file(path="a.py", text="print(1)")
         ● frontend  turn 1, write_file(path="a.py", text="print(1)")              3.0 s
         ◌ review    waits for backend, frontend
         ◌ ship      waits for review

         ● running · 1/5 steps · 6.2 s
           3 model calls · 4 tool calls · 315 in, 60 out, $0.0001
        """)
    assert drawn(story, 120).splitlines()[3:5] == [
        " ✓ analyze   analyst   done: analyze is done                                              105 in 20 out <$0.0001   1.8 s",
        " ● backend   backend   turn 1, 2 calls at once                                            105 in 20 out <$0.0001   3.5 s",
    ]


def test_who_waits_for_a_human_says_how_to_answer(story: Story) -> None:
    story.start()
    story.begin("analyze", "analyst")
    story.ask("analyze")
    shown = drawn(story, 120)
    assert ' ? analyze   analyst   waits for a human: deploy(where="prod")' in shown
    assert " ? waiting · 0/5 steps" in shown
    assert ' ? backend wants: deploy(where="prod")' in shown
    assert "   callboard approve apr_" in shown
    narrow = drawn(story, 80).splitlines()
    assert [each for each in narrow if each.startswith("   callboard reject apr_") and each.endswith("-m WHY")]


def test_a_failed_gate_and_a_failed_attempt_stay_in_sight(story: Story) -> None:
    story.start()
    for key in ("analyze", "backend", "frontend"):
        story.begin(key)
        story.succeed(key)
    story.begin("review", "reviewer")
    story.fail_gate("review", "backend")
    assert drawn(story).splitlines()[4:9] == [
        " ◌ backend   sent back, ready",
        " ✓ frontend  done: frontend is done                                       750 ms",
        " ◌ review    waits for backend",
        "   └ ↻ round 1: 1 finding, back to backend: off by one",
        " ◌ ship      waits for review",
    ]
    story.begin("backend")
    story.fail("backend")
    story.begin("backend")
    assert drawn(story).splitlines()[4:6] == [
        " ● backend   attempt 3, starting…                                          4.8 s",
        "   └ ✗ attempt 2: turns: too many",
    ]


def whole(story: Story) -> Iterator[Story]:
    story.start()
    for key in ("analyze", "backend", "frontend"):
        story.begin(key)
        story.tick(key, 1)
        story.succeed(key)
        yield story
    story.begin("review", "reviewer")
    story.pass_gate("review")
    story.begin("ship", "manager")
    story.succeed("ship")
    story.history.run(RunSucceeded(summary="all good"))
    yield story


def test_at_the_end_all_is_done(story: Story) -> None:
    *_, told = whole(story)
    assert drawn(told) == picture("""
        Build a small app
        run_1  software, model scripted-1

         ✓ analyze   done: analyze is done                                         1.8 s
         ✓ backend   done: backend is done                                         1.8 s
         ✓ frontend  done: frontend is done                                        1.8 s
         ✓ review    passed: good                                                 500 ms
         ✓ ship      done: ship is done                                           750 ms

         ✓ succeeded · 5/5 steps · 8.5 s
           3 model calls · 3 tool calls · 315 in, 60 out, $0.0001
        """)


def test_the_ascii_picture_is_ascii(story: Story) -> None:
    *_, told = whole(story)
    shown = drawn(told, look=Look(unicode=False))
    assert shown.isascii()
    assert " + analyze   done: analyze is done" in shown


def test_colours_are_only_added(story: Story) -> None:
    import re

    *_, told = whole(story)
    coloured = drawn(told, look=Look(colour=True))
    assert "\x1b[32m✓\x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == drawn(told)


def test_a_low_terminal_sums_up_what_does_not_move(story: Story) -> None:
    story.start()
    story.begin("analyze")
    story.succeed("analyze")
    story.begin("backend")
    story.begin("frontend")
    shown = drawn(story, rows=9).splitlines()
    assert shown[3:] == [
        " ✓ 1 step done",
        " ● backend   starting…                                                     1.8 s",
        " ● frontend  starting…                                                     1.2 s",
        " ◌ 2 steps to come",
        "",
        " ● running · 1/5 steps · 3.5 s · 0 model calls · 0 tool calls",
    ]


@pytest.mark.parametrize(
    ("fact", "status"),
    [
        (RunFailed(code="turns", reason="too many", step="backend"), "failed"),
        (RunFailed(code="timed_out", reason="too long"), "timed_out"),
        (RunCanceled(by="ann"), "canceled"),
    ],
)
def test_an_end_that_is_none_leaves_no_step_running(story: Story, fact: RunFailed | RunCanceled, status: str) -> None:
    story.start()
    story.begin("analyze")
    story.history.run(RunCancelRequested(by="ann"))
    assert "canceling" in drawn(story)
    story.history.run(fact)
    board = board_of(story)
    assert board.status == status
    assert {step.status for step in board.steps.values()} == {"canceled", "skipped"}


def test_a_step_to_be_tried_again_tells_when_and_by_whom(story: Story) -> None:
    story.start()
    story.begin("analyze")
    story.fail("analyze", next_="retry", retry_ms=5_000)
    assert drawn(story).splitlines()[3].startswith(" ◌ analyze   turns: too many, tried again in ")
    assert board_of(story).status == "waiting"
    story.begin("analyze", "manager", attempts_max=4, fallback=True)
    assert drawn(story).splitlines()[3].startswith(" ● analyze   fallback manager, attempt 2 of 4, starting")


def test_a_step_given_up_is_skipped_with_its_fault_and_the_end_names_it(story: Story) -> None:
    story.start()
    story.begin("analyze")
    story.fail("analyze", next_="degrade")
    story.give_up("analyze")
    shown = drawn(story).splitlines()
    assert "analyze   skipped: given up, turns: too many" in shown[3]
    assert "backend   ready" in "".join(shown)
    story.succeeded("analyze")
    assert "succeeded without analyze" in drawn(story)


def test_a_step_a_human_is_asked_about_waits_and_says_how_to_answer(story: Story) -> None:
    story.start()
    story.begin("analyze")
    call = story.fail("analyze", next_="ask")
    shown = drawn(story, columns=200)
    assert board_of(story).status == "needs_input"
    assert "waits for a human" in shown
    apr = approval_of(call)
    assert (
        f'callboard approve {apr}   or   callboard approve {apr} --respond -m "what to do"   or   callboard reject'
        in shown
    )


def test_a_run_whose_time_was_over_is_timed_out(story: Story) -> None:
    story.start()
    story.begin("analyze")
    story.time_out("analyze")
    assert "its time is over, it is told to stop" in drawn(story)
    story.timed_out()
    assert board_of(story).status == "timed_out"


def test_a_paused_run_says_so_until_it_is_resumed(story: Story) -> None:
    story.start()
    story.begin("analyze")
    story.history.run(RunPaused(by="ann", reason="lunch"))
    paused_at = story.history.now_ms
    story.history.run(RunPaused(by="bob", at=9))
    since = ago(paused_at, story.history.now_ms + 1_000)
    assert f" ⏸ paused by bob {since}\n   callboard runs resume run_1" in drawn(story)
    story.history.run(RunResumed(by="ann"))
    assert "paused" not in drawn(story)
    story.history.run(RunPaused(by="ann", reason="lunch"))
    assert "paused by ann now: lunch" in drawn(story)
    story.history.run(RunCanceled(by="ann"))
    assert "runs resume" not in drawn(story)


def test_runs_under_a_run_are_named_while_they_go_on(story: Story) -> None:
    story.start()
    story.begin("backend")
    child = story.spawn("backend")
    assert f"1 run under it not ended: {child}" in drawn(story)
    story.child_ended(child)
    assert "under it" not in drawn(story)


def test_an_event_seen_twice_changes_nothing(story: Story) -> None:
    *_, told = whole(story)
    board = board_of(told)
    for record in told.history.records:
        board = take(board, event_of_record(record))
    assert board == board_of(told)


def test_an_envelope_gives_the_same_event_as_its_record(story: Story) -> None:
    *_, told = whole(story)
    for record in told.history.records:
        assert event_of(structured(record)) == event_of_record(record)


def test_lines_tell_when_where_and_what(story: Story) -> None:
    *_, told = whole(story)
    board, lines = Board(run="run_1"), list[str]()
    for record in told.history.records:
        event = event_of_record(record)
        board = take(board, event)
        if notable(event.fact):
            lines.append(paint(event_line(event, board, look=PLAIN), PLAIN))
    assert lines[:4] == [
        '  0.00s  run               · run requested: "Build a small app" (blueprint software, model scripted-1, 5 steps)',
        "  0.25s  run               ● run started",
        "  0.75s  analyze           ● step started by backend",
        "  2.50s  analyze           ✓ step succeeded: analyze is done (105 in, 20 out, <$0.0001)",
    ]
    assert lines[-1] == "  8.50s  run               ✓ run succeeded: all good"


def test_the_runs_own_line_is_at_no_step_also_where_a_step_has_no_attempt_yet(story: Story) -> None:
    *_, told = whole(story)
    board = Board(run="run_1", actors={"": "release"})
    event = event_of_record(told.history.records[0])
    assert "run               · run requested" in paint(event_line(event, board, look=PLAIN), PLAIN)
