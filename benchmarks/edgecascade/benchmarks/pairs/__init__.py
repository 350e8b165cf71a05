"""The built-in pairs of models: each from public weights or data to a cascade model, its remote and test inputs.

Nothing outside this folder, the command `bench demo` and the studies imports it.
"""
