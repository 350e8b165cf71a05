"""Finding planted wrong labels: edgecascade's cleaning and cleanlab on the same out-of-fold outputs of several experts.

`data` names the data sets and their experts, `noise` plants wrong labels, `outputs` fits the experts on folds, `peers`
holds what is compared, `detection` measures it, `retraining` trains on what each of them leaves, `costs` times both on
large arrays, and `run` does all of it. `report` writes the page.
"""
