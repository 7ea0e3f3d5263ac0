"""What it looks like: read models in Postgres, each a pure fold of the log, and the runner that keeps them up."""
