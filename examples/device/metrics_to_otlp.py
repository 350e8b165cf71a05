"""Answer images, and send the counts to an OpenTelemetry collector every 15 seconds.

pip install 'edgecascade[cpu,images,otel]' opentelemetry-sdk opentelemetry-exporter-otlp-proto-http
OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 python metrics_to_otlp.py local.onnx photos/*.jpg
"""

import sys

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from edgecascade import Cascade
from edgecascade.runtime import export_to_opentelemetry

file, *images = sys.argv[1:]
reader = PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=15_000)
provider = MeterProvider([reader], Resource.create({"service.name": "edgecascade"}))
with Cascade.load(file) as cascade:
    export_to_opentelemetry(cascade.metrics, meter=provider.get_meter("edgecascade"))
    for image in images:
        answer = cascade.predict(image)
        print(image, answer.name, answer.reason.value)
    provider.shutdown()  # sends the last counts
