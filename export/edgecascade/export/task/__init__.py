"""Cascade files of general tasks: detection, text recognition, speech, regression, and any other task.

Read `calibrate.py` first, then `confidence.py` for the scores and `fold.py` for the decision.
"""
