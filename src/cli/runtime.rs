//! The threads of the program's tasks.

use std::io;

use tokio::runtime::{Builder, Runtime};

use crate::config::half_the_cores;

/// What runs the tasks of the program, on half of the cores.
///
/// The fan-out, the database and large answers have threads of their own. A task that hands something to another one wakes a
/// thread that is idle, and that costs as much as passing an event of ComfyUI on.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(half_the_cores())
        .enable_all()
        .build()
}
