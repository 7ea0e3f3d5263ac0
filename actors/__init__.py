"""Who decides: the deciders, the turn and the runtime that run them, and the models they call."""
