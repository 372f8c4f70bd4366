//! Jobs in PostgreSQL and SQLite, and what can go wrong with a database.

mod addresses;
mod batches;
mod database_tls;
mod disk;
mod ended_jobs;
pub(crate) mod faults;
mod frozen;
mod kills;
mod labels;
mod learning;
mod leases;
pub(crate) mod lifecycle;
mod lists;
mod mirror;
mod owners;
mod passwords;
mod pgbouncer;
mod pipeline_tables;
mod producers;
mod refusals;
mod relays;
mod restart;
mod roles;
mod shutdown;
mod spreading;
mod unreachable;
mod upgrades;
