#!/bin/sh
# Makes the collector's role: it may look at statistics and count books, and nothing else.
# Run against a database that is migrated; safe to run again.
set -eu
psql -v ON_ERROR_STOP=1 -v user="$PG_MONITOR_USER" -v password="$PG_MONITOR_PASSWORD" "$@" <<'SQL'
select format('create role %I login', :'user')
where not exists (select from pg_roles where rolname = :'user') \gexec
select format('alter role %I password %L', :'user', :'password') \gexec
select format('grant pg_monitor to %I', :'user') \gexec
select format('grant select on books to %I', :'user') \gexec
SQL
