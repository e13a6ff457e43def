"""Speed, measured in alternating pairs: `python -m benchmarks` (needs the `bench` extra)."""
