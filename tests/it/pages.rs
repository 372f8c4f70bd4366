//! The pages: what is served, what they read, and how they are in Chromium, driven by the scripts in `tests/browser`.

mod cancelling;
mod dashboard;
mod dashboard_reader;
mod dashboard_states;
mod data;
mod docs_page;
mod files;
mod submit_page;
mod test_page;
