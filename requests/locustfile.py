# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "locust==2.46.6",
#     "opentelemetry-sdk==1.39.1",
#     "opentelemetry-exporter-otlp-proto-http==1.39.1",
#     "opentelemetry-instrumentation-requests==0.60b1",
# ]
# ///
"""Load for the BookApp, traced from its first span on.

Each user's request is the root of the application's trace and carries `synthetic=true` as baggage.
Only books this run created are removed; URLs are grouped by route; the run fails when more than
one request in a hundred fails.

    uvx locust -f requests/locustfile.py --host http://127.0.0.1:8000
"""

import random

from locust import HttpUser, between, events, task
from opentelemetry import baggage, context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

FAILURES = 0.01

provider = TracerProvider(resource=Resource.create({"service.name": "locust"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
RequestsInstrumentor().instrument()


@events.quitting.add_listener
def judge(environment, **_):
    """The exit code says whether the run was good; the last spans leave."""
    if environment.stats.total.num_requests == 0 or environment.stats.total.fail_ratio > FAILURES:
        environment.process_exit_code = 1
    provider.shutdown()


class Reader(HttpUser):
    """Mostly reads, sometimes writes, removes a little of what it wrote."""

    wait_time = between(0.01, 0.1)

    def on_start(self):
        self.created = []
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
        answer = self.client.post("/books/add", json=book, name="/books/add")
        if answer.status_code == 201:
            self.created.append(answer.json())

    @task(1)
    def bulk_create(self):
        books = [{"title": f"Load {random.random()}", "author": "Locust"} for _ in range(10)]
        answer = self.client.post("/books/bulk_add", json=books, name="/books/bulk_add")
        if answer.status_code == 201:
            self.created.extend(answer.json())

    @task(3)
    def delete(self):
        if self.created:
            book = self.created.pop(random.randrange(len(self.created)))
            self.client.delete(f"/books/{book}", name="/books/{id}")
