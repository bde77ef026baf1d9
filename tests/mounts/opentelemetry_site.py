"""A site whose pages OpenTelemetry traces, in four shapes. A span that ends is a note."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from django_ws_dispatch.asgi import get_asgi_application

from .notes import note

__all__ = ["application", "talkative", "without_sockets", "wrapped"]


class Notes(SpanExporter):
    """Sends nothing anywhere."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            parent = "root" if span.parent is None else "child"
            note(f"{parent}: {span.name}")
        return SpanExportResult.SUCCESS


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Notes()))
trace.set_tracer_provider(provider)
DjangoInstrumentor().instrument()

application = get_asgi_application()
wrapped = OpenTelemetryMiddleware(application, exclude_spans=["receive", "send"])
# By itself it makes a span of each message, too.
talkative = OpenTelemetryMiddleware(application)
without_sockets = OpenTelemetryMiddleware(application, excluded_urls="^wss?://")
