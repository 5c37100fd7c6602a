-- What the worker derived from each book.
create table book_details (
    book_id int4 primary key references books (id) on delete cascade,
    slug text not null,
    initials text not null,
    sort_title text not null,
    checksum text not null,
    derived_at timestamptz not null default now()
);

-- Which events took effect; written in the same transaction as their effect.
create table ledger (
    event_id text primary key,
    processed_at timestamptz not null default now()
);
