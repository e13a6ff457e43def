"""Experiments of the papers that are more than one run."""
