"""The TODO list's server: `store` keeps, `api` decides, `web` speaks HTTP."""
