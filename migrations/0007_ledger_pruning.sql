-- The worker prunes the ledger by age.
create index ledger_processed on ledger (processed_at);
