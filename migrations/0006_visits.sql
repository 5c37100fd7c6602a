-- The visits of the start page, one row a day. Rows older than 400 days are removed.
create table visits (
    day date primary key,
    count int8 not null
);
