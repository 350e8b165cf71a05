"""Answer a parquet file offline, in two stages: the small model reads all rows, the large one only those it gains on.

pip install 'edgecascade[cpu,parquet]'
python score_parquet.py local.onnx large.onnx rows.parquet answers.parquet    # a column `x`, `image` or `text`
"""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from edgecascade import Cascade


def main(file: str, large: str, rows: str, out: str) -> None:
    """Answer 10,000 rows at a time. `edgecascade run local.onnx rows.parquet -o out` also goes on after a kill."""
    total = forwarded = 0
    writer = None
    with Cascade.load(file, remote=large) as cascade:
        names = np.array(cascade.labels)
        for batch in pq.ParquetFile(rows).iter_batches(10_000):
            columns = cascade.predict_columns(batch)
            answers = pa.table(
                {
                    "name": names[columns.label],
                    "confidence": columns.confidence,
                    "source": columns.source,
                    "reason": columns.reason,
                }
            )
            writer = writer or pq.ParquetWriter(out, answers.schema)
            writer.write_table(answers)
            total, forwarded = total + len(columns), forwarded + int(columns.forward.sum())
    if writer is not None:
        writer.close()
    print(f"{total} rows, {forwarded} forwarded ({forwarded / max(1, total):.1%})")


if __name__ == "__main__":
    main(*sys.argv[1:])
