//! What people run a relay with: its log, the check of everything that it needs, systemd, Prometheus and Grafana.

mod doctor;
mod json_log;
mod monitoring;
#[cfg(target_os = "linux")]
mod service;
mod traces;
