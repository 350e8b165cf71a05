"""The study of wrong labels on a model whose temperature is known."""

import numpy as np

from studies.wrong_labels import measure, summarize


def test_the_study_judges_on_the_labels_as_they_are() -> None:
    """Random wrong labels spoil the usual temperature and hardly that which allows for them; pairs do in between."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 3.0, (6000, 10))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    none, random, pairs = found = list(measure("honest", 1.5 * logits, labels, draws=3))
    assert [one.kind for one in found] == ["none", "random", "pairs"]
    assert random.usual > none.usual + 0.03
    assert random.allowing < none.allowing + 0.01
    assert none.allowing < pairs.allowing < pairs.usual
    assert random.shown == 1.0
    assert abs(random.wrong - 0.05) < 0.015
    table = summarize(found)
    assert len({len(line) for line in table.splitlines()[1:]}) == 1
    assert f"{random.usual:.3f}" in table
