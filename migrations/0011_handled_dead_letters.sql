-- The dead letters that somebody has replayed or discarded, by their ids.
create type dead_letter_outcome as enum ('replayed', 'discarded');

create table handled_dead_letters (
    id text primary key,
    outcome dead_letter_outcome not null,
    handled_at timestamptz not null default now()
);

-- The worker prunes them by age.
create index handled_dead_letters_handled on handled_dead_letters (handled_at);
