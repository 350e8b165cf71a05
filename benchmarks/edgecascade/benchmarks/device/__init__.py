"""What a benchmark records about the machine: identity, clocks, temperature, throttling, energy and memory.

psutil gives memory and temperature; the extra `edgecascade[boards]` adds the power of NVIDIA GPUs
(nvidia-ml-py) and the identity of Jetson boards (jetson-stats). A value that
the machine does not report is None, never 0.
"""
