-- What is to be announced: written in the transaction of what it announces, sent by the relay.
create table outbox (
    id int8 generated always as identity primary key,
    event_id text not null unique,
    topic text not null,
    key text not null,
    payload jsonb not null,
    -- As they will be sent; they carry the trace of the request that wrote the row.
    headers jsonb not null,
    created_at timestamptz not null default now(),
    published_at timestamptz,
    -- A message that can never be sent stays here, with the reason, for somebody to look at.
    set_aside_at timestamptz,
    set_aside_reason text
);

create index outbox_waiting on outbox (id) where published_at is null and set_aside_at is null;
create index outbox_published on outbox (published_at) where published_at is not null;
