"""Measuring cascades: real models, real data, real networks; tables, plots and a report.

    from edgecascade.benchmarks.offload import measure_offload, offload_report, offload_summary
    from edgecascade.benchmarks.report import write_page

    result = measure_offload("local.onnx", data, remote_scores, remote="http://host/v2/models/large", deadline=0.15)
    print(offload_summary(result))
    write_page(offload_report(result, title="...", method="...", command="..."), "report", summary="...")

`offload` measures accuracy against offload rate, `latency` times answers over `network` profiles on a `device`,
`report` writes and compares results, and `pairs` holds the built-in models, which nothing else imports.
"""
