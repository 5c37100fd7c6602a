-- The responses to requests with an Idempotency-Key, by key. A row is written in the transaction of its
-- effect.
create table idempotency_keys (
    key text primary key,
    -- SHA-256 of the route and the content of the request.
    fingerprint bytea not null,
    -- The ids of the added books; null only within the transaction that adds them.
    book_ids int4[],
    created_at timestamptz not null default now()
);

create index idempotency_keys_created on idempotency_keys (created_at);
