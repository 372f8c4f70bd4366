//! Clients of the system before the relay, as its users still run them: nothing is changed but host and port.
//! They are in `tests/clients`.

mod classes;
mod scripts;
