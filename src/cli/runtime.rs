//! The threads of the program's tasks.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Runtime};

/// How many cores there are for each thread that runs tasks. The fan-out, the database and large answers have threads of their
/// own; a task that hands something to another one wakes a thread that is idle, which costs as much as what it hands over.
const CORES_OF_A_THREAD: usize = 2;

/// What runs the tasks of the program.
pub fn runtime() -> io::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores.div_ceil(CORES_OF_A_THREAD))
        .enable_all()
        .build()
}
