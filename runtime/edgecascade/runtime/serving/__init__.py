"""Serve a model over the Open Inference Protocol v2: an ONNX file, or the answers of a cascade.

`served.py` says what is served, `messages.py` reads requests and writes replies, `endpoints.py` has the addresses, and
`server.py` listens.
"""
