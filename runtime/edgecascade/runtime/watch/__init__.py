"""Whether a deployed cascade still does what it did on its calibration data."""
