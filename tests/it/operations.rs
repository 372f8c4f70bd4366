//! What people run a relay with: its log, and the check of everything that it needs.

mod doctor;
mod json_log;
