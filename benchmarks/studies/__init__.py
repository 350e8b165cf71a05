"""What this project measures about itself; not installed. Run each as `python -m studies.NAME`, with `--help`.

coverage: intervals, objectives, chances and certificates against known truth, and the speed of the temperature fit.
audits: bounds and intervals of label audits against known truth.
corruptions: the flagship's policy on images as a worse camera would take them.
runtime_costs: what the device pays for `Cascade` rather than a bare session.
guard: every ratio with a goal, from all of these.
diagrams: the diagrams of docs/, from their sources in docs/pictures.
readme_table: the table of built-in pairs in docs/benchmarks.md, from the committed results.
pictures: the pictures of docs/, from the committed results.
"""
