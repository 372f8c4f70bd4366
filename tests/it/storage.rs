//! Jobs in PostgreSQL and SQLite, and what can go wrong with a database.

mod addresses;
mod adoption;
mod database_tls;
mod disk;
mod faults;
mod kills;
mod learning;
mod leases;
mod lifecycle;
mod passwords;
mod pgbouncer;
mod refusals;
mod restart;
mod roles;
mod shutdown;
