"""Calibrate a cascade, and log its plan, its figures and the file as a run of MLflow.

pip install 'edgecascade[cpu,export]' mlflow-skinny
MLFLOW_TRACKING_URI=http://HOST:5000 python mlflow_run.py body.onnx large.onnx calibration.npz
"""

import sys
from dataclasses import asdict

import mlflow

from edgecascade.calibration import MostAccuracy
from edgecascade.export import calibrate, local_scores, read_labelled, remote_scores


def main(body: str, large: str, path: str, rate: str = "0.2") -> None:
    """Log one run: change the offload rate, the score or the data, and compare runs in MLflow."""
    data = read_labelled(path)
    with mlflow.start_run() as run:
        local, remote = local_scores(body, data.inputs), remote_scores(large, data.inputs)
        plan = calibrate(body, "local.onnx", data, local, remote, objective=MostAccuracy(float(rate))).plan
        mlflow.log_params({"offload_rate": rate, "score": plan.score, "merge": plan.merge, "data": data.digest})
        mlflow.log_metrics(
            {
                "accuracy": plan.policy.chosen.accuracy,
                "offload_rate": plan.policy.chosen.offload_rate,
                "temperature": plan.local.temperature,
                **{f"ece_{end}": value for end, value in asdict(plan.local.ece_after).items() if end != "n"},
            }
        )
        mlflow.log_text(plan._repr_html_(), "plan.html")
        mlflow.log_artifact("local.onnx")
        print(run.info.run_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
