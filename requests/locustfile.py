# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "locust==2.46.6",
#     "opentelemetry-sdk==1.39.1",
#     "opentelemetry-exporter-otlp-proto-http==1.39.1",
#     "opentelemetry-instrumentation-requests==0.60b1",
# ]
# ///
"""Load generator for BookApp with tracing.

The span of each request is the root of the application's trace. Each request carries the baggage
`synthetic=true`. A run removes only books that it created. Statistics are grouped by route. The run
fails if more than 1 % of the requests fail.

INGRESS_URL sends the requests through an ingress that routes by host name, instead of to --host.

    uvx locust -f requests/locustfile.py --host http://127.0.0.1:8000
"""

import os
import random

from locust import HttpUser, between, events, task
from opentelemetry import baggage, context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

MAX_FAIL_RATIO = 0.01
INGRESS_URL = os.environ.get("INGRESS_URL")

provider = TracerProvider(resource=Resource.create({"service.name": "locust"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
RequestsInstrumentor().instrument()


@events.quitting.add_listener
def finish(environment, **_):
    """Sets the exit code and exports the remaining spans."""
    total = environment.stats.total
    if total.num_requests == 0 or total.fail_ratio > MAX_FAIL_RATIO:
        environment.process_exit_code = 1
    provider.shutdown()


class Reader(HttpUser):
    """A user that mostly reads, sometimes adds books and removes some of them."""

    wait_time = between(0.01, 0.1)

    def on_start(self):
        self.created = []
        if INGRESS_URL:
            self.client.base_url = INGRESS_URL
            self.client.headers["Host"] = "bookapp.localhost"
        self.client.get("/")
        context.attach(baggage.set_baggage("synthetic", "true"))

    @task(100)
    def get(self):
        self.client.get(f"/books/{random.randint(1, 92)}", name="/books/{id}")

    @task(1)
    def list(self):
        self.client.get("/books?limit=100", name="/books")

    @task(2)
    def create(self):
        book = {"title": f"Load {random.random()}", "author": "Locust"}
        response = self.client.post("/books/add", json=book, name="/books/add")
        if response.status_code == 201:
            self.created.append(response.json())

    @task(1)
    def bulk_create(self):
        books = [{"title": f"Load {random.random()}", "author": "Locust"} for _ in range(10)]
        response = self.client.post("/books/bulk_add", json=books, name="/books/bulk_add")
        if response.status_code == 201:
            self.created.extend(response.json())

    @task(3)
    def delete(self):
        if self.created:
            book = self.created.pop(random.randrange(len(self.created)))
            self.client.delete(f"/books/{book}", name="/books/{id}")
