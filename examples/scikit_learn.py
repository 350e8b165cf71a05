"""Make a cascade of two scikit-learn classifiers: a small one answers, a large one is asked where it helps.

pip install 'edgecascade[cpu,export]' scikit-learn skl2onnx
python scikit_learn.py
"""

import numpy as np
import onnx
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from edgecascade import Cascade
from edgecascade.calibration import MostAccuracy
from edgecascade.export import calibrate, local_scores, read_labelled

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
train, calibration, test = np.split(order, [600, 1200])
x = x.astype(np.float32)

small = LogisticRegression(C=1e-4, max_iter=500).fit(x[train], y[train])
large = SVC(C=10).fit(x[train], y[train])

# The small one becomes an ONNX file, and that file is what is calibrated. The large one stays what it is.
body = convert_sklearn(
    small,
    initial_types=[("x", FloatTensorType([None, 64]))],
    target_opset={"": 18, "ai.onnx.ml": 3},
    options={"zipmap": False},
)
onnx.save(body, "body.onnx")
data = read_labelled([(x[calibration], y[calibration])])
found = calibrate(
    "body.onnx",
    "digits.onnx",
    data,
    local_scores("body.onnx", data.inputs),
    large.decision_function(x[calibration]),
    objective=MostAccuracy(0.2),
)
print(found.plan)

with Cascade.load("digits.onnx", remote=lambda rows: large.decision_function(rows)) as cascade:
    columns = cascade.predict_columns(x[test])
for name, labels in (
    ("small alone", small.predict(x[test])),
    ("large alone", large.predict(x[test])),
    ("cascade", columns.label),
):
    print(f"{name:<12} {np.mean(labels == y[test]):.1%} right")
print(f"{columns.forward.mean():.1%} forwarded")
