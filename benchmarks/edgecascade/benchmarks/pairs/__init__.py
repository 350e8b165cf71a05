"""The built-in pairs of models: each from public weights or data to a cascade model, its remote and test inputs.

Nothing outside this folder, the commands `bench demo` and `bench clean` and the studies imports it.
"""
