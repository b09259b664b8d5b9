"""How fast Teul is beside dockerd: `python -m bench` runs the table of budgets with both, in turn, on this machine."""
