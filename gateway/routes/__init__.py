"""The operations of the doors, a noun a module, as tables of values."""
