"""Cleaning: several calibrated experts find wrong labels, and a small audit proves how many.

Experts are models' outputs on the same rows. A pool combines them, fitted on held-out rows; suspects are the rows whose
label the pool disputes, most suspect first.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> truth = rng.integers(0, 5, 4000)
>>> outputs = [3 * np.eye(5)[truth] + rng.normal(size=(4000, 5)) for _ in range(2)]
>>> held_out, judged = np.arange(4000) < 1000, np.arange(4000) >= 1000
>>> planted = plant(truth[judged], 5, share=0.02)
>>> experts = Experts.of(outputs)
>>> pool = fit_pool(experts.select(held_out), truth[held_out])
>>> suspects = find_suspects(experts.select(judged), planted.labels, pool)
>>> bool(detection(planted, suspects).value > 0.9)
True
"""

from edgecascade.types.extras import naming_extras

with naming_extras():
    from edgecascade.calibration.cleaning.audit import DESIGNS, Audit, draw_audit
    from edgecascade.calibration.cleaning.experts import Experts
    from edgecascade.calibration.cleaning.in_sample import check_columns, check_held_out
    from edgecascade.calibration.cleaning.plants import Planted, detection, plant
    from edgecascade.calibration.cleaning.pool import Pool, fit_pool
    from edgecascade.calibration.cleaning.shards import join_suspects
    from edgecascade.calibration.cleaning.suspects import RULES, Suspects, find_suspects
    from edgecascade.calibration.cleaning.verdicts import Judged, Judgement, Mistake, Precision, Verdict, judge

__all__ = [
    "DESIGNS",
    "RULES",
    "Audit",
    "Experts",
    "Judged",
    "Judgement",
    "Mistake",
    "Planted",
    "Pool",
    "Precision",
    "Suspects",
    "Verdict",
    "check_columns",
    "check_held_out",
    "detection",
    "draw_audit",
    "find_suspects",
    "fit_pool",
    "join_suspects",
    "judge",
    "plant",
]
