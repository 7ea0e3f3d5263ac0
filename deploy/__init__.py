"""Where Callboard runs: the embedded stack of one machine (`deploy.local`), and what an operator needs past it."""
