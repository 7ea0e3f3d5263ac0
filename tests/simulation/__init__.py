"""The whole system on a simulated log, clock, network, provider and people, all from one seed."""
