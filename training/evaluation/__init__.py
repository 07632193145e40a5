"""Studies: what is claimed, measured beside trivial baselines."""
