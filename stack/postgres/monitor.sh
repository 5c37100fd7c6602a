#!/bin/sh
# Creates the collector's database role, which can only read statistics, the table books, and the times of
# the rows in outbox and ledger.
# The database must be migrated. Repeated runs are safe.
set -eu
psql -v ON_ERROR_STOP=1 -v user="$PG_MONITOR_USER" -v password="$PG_MONITOR_PASSWORD" "$@" <<'SQL'
select format('create role %I login', :'user')
where not exists (select from pg_roles where rolname = :'user') \gexec
select format('alter role %I password %L', :'user', :'password') \gexec
select format('grant pg_monitor to %I', :'user') \gexec
select format('grant select on books to %I', :'user') \gexec
select format('grant select (published_at) on outbox to %I', :'user') \gexec
select format('grant select (processed_at) on ledger to %I', :'user') \gexec
SQL
