//! Jobs in PostgreSQL and SQLite, and what can go wrong with a database.

mod disk;
mod faults;
mod kills;
mod learning;
mod leases;
mod lifecycle;
mod mirror;
mod pipeline_tables;
mod refusals;
mod restart;
mod shutdown;
mod upgrades;
