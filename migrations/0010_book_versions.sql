-- Each change of a book increases its version. Details have the version of the book that they were
-- derived from, so that a newer version is never replaced by an older one.
alter table books add column version int4 not null default 1;
alter table book_details add column book_version int4 not null default 1;

-- The worker removes the details of a removed book when it processes the event of the removal.
alter table book_details drop constraint book_details_book_id_fkey;
