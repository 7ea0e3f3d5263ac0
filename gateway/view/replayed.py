"""What a replay of a recorded run found, as lines."""

from actors.recorded import Report
from gateway.view.paint import Line, Piece, line
from gateway.view.table import fields
from gateway.view.text import clean, listed, plural


def report_lines(report: Report) -> list[Line]:
    """Return a report for people: what was made again, what could only be folded, and the first difference."""
    only = [f"{count} {type_.rpartition('.')[0]}" for type_, count in report.folded.items()]
    shown = fields(
        [
            ("folded", f"{plural(report.records, 'event')} of {plural(report.actors, 'actor')}"),
            ("decided again", plural(report.decided, "decision")),
            ("handed again", f"{plural(report.handed, 'first event')} of agents and calls"),
            ("folded only", f"{listed(only)}: the record does not hold what they came of" if only else ""),
        ]
    )
    found = report.difference
    if found is None:
        return [*shown, line(Piece("the same as recorded", "good"))]
    return [
        *shown,
        line(Piece(f"first difference: {found.what} at #{found.seq}, actor {clean(found.actor)}", "bad")),
        line("  recorded  ", clean(found.recorded)),
        line("  today     ", clean(found.today)),
    ]
