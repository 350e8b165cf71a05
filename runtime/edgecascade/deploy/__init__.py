"""Hand a cascade over to engines that serve many machines: Triton, KServe, Ray.

`pair.py` opens both models and checks that they fit together; `triton.py` writes a model repository, in which
`triton_model.py` is the cascade; `kserve.py` writes KServe's objects.
"""
