"""What agents can do: tools and their registry, the run's files, and the sandbox that commands run in."""
