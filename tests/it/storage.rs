//! Jobs in PostgreSQL and SQLite: one story for both, and what may go wrong with a database.

mod adoption;
mod disk;
mod faults;
mod kills;
mod learning;
mod leases;
mod lifecycle;
mod shutdown;
