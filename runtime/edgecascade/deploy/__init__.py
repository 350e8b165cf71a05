"""Hand a cascade over to engines that serve or compute on many machines.

`pair.py` opens both models and checks that they fit together. `triton.py` writes a model repository, in which
`triton_model.py` is the cascade; `kserve.py` writes KServe's objects; `ray.py` is an application of Ray Serve;
`stages.py` has two functions of tables, for Ray Data, Dask and Spark.
"""
