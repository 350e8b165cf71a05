"""What other programs run is not collected."""

collect_ignore = ["onnx_in_triton.py"]
