"""Run folders in, one self-contained page out: figures, sections and pages, without torch."""
