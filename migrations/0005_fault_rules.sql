-- Failures on purpose: which requests or messages fail, how often, how, until when.
create type fault_kind as enum ('error', 'latency', 'panic');

create table fault_rules (
    id int4 generated always as identity primary key,
    service text not null check (service in ('bookapp', 'backend')),
    endpoint_pattern text not null,
    http_method text not null,
    kind fault_kind not null,
    error_rate float8 not null check (error_rate between 0 and 1),
    error_code int4 check (error_code between 400 and 599),
    error_message text,
    latency_ms int4 check (latency_ms between 1 and 60000),
    ends_at timestamptz,
    unique (service, endpoint_pattern, http_method, kind)
);

-- Every instance hears of a change at once, and reads the rules anew.
create function tell_fault_rules() returns trigger language plpgsql as $$
begin
    perform pg_notify('fault_rules', '');
    return null;
end
$$;

create trigger fault_rules_changed
after insert or update or delete or truncate on fault_rules
for each statement execute function tell_fault_rules();
