"""What the terminal shows: pure functions from facts and states to lines; nothing here reads, writes or waits."""
