"""Whether a deployed cascade still performs as it did on its calibration data."""
