"""Two chat endpoints as one: the local one answers, and the remote one where the local reply is at a disadvantage.

Read `cascade.py` first. This package needs aiohttp, the extra `gateway`, and no ONNX Runtime.
"""
