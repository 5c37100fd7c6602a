-- How the last leader of the outbox relay ended. Only the leader changes the row.
create table outbox_leadership (
    -- There is one row.
    id bool primary key default true check (id),
    -- Whether the last leader ended after the acknowledgements of all messages that it had sent. Otherwise
    -- some may still be on their way.
    has_settled bool not null default true
);

insert into outbox_leadership default values;
