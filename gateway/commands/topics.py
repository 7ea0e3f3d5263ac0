"""What `callboard help` explains beside the commands: words for a person who stands before something that surprises."""

from typing import Final

BUDGETS: Final = """\
A budget is the most that a run, and all runs under it, may use. It is kept before the spending:

  callboard run GOAL --budget 2.00                     US dollars
  callboard run GOAL --budget tokens=50k,wall=10m      also: usd=2.00, model_calls=20, tool_calls=50, depth=2

Before a model call is made its worst case is reserved: all that it will read, and the longest answer it may give,
4,096 tokens at least. When it has answered, what it did not use comes back at once. So a run can be out of budget
with money left: what is left is less than the worst case of its next call.

An example, as it went (blueprint haiku, $2.50 for a million tokens read, $10.00 for a million written):

  reserved for the first call   2,505 tokens to read     $0.0063
                                4,096 tokens to write    $0.0410   together $0.0472
  what that call used             410 tokens read, 63 written      $0.0016
  what the whole run used         3 model calls                    $0.0039

  --budget 0.03   out before the first call: $0.0472 needed at least, $0.0300 left
  --budget 0.05   succeeds, $0.0461 left

A run that names no budget, and whose blueprint names none, has CALLBOARD_BUDGET_USD dollars, if that is set where the
gateway runs; `--budget none` begins one without a limit all the same.

A run that is out keeps what it has and waits. `callboard run` and `runs watch` then end with exit code 7, unless they
can ask somebody, and name the command that lets the run go on:

  callboard runs budget RUN                what it may use, what is used, reserved and left, and what it waits for
  callboard runs budget RUN --add 1.00     more on top; exit code 7 if that is still too little
  callboard runs budget RUN --to 5.00      set; never below what is used and reserved
  callboard admin budget --to 50.00        all runs of the workspace together
"""

TOPICS: Final = {"budgets": BUDGETS, "budget": BUDGETS}
"""By name; exit codes have their own table (gateway.commands.exits)."""
