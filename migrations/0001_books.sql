-- Books, as the API knows them.
create type book_status as enum ('available', 'borrowed', 'lost');

create table books (
    id int4 generated always as identity primary key,
    title text not null,
    author text not null,
    status book_status not null default 'available'
);
