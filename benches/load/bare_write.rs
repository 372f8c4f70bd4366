//! What the kernel takes to pass an event on, whatever program does it: one write to a socket whose reader sleeps.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// The length of an event with the head of its frame, in bytes.
const EVENT: usize = 113;

/// Microseconds of processor time that a bare loop takes more for each event if it writes it to another socket than if it only
/// reads it. `count` events come, `rate` a second.
pub(crate) fn micros(rate: f64, count: usize) -> anyhow::Result<f64> {
    let (reading, passing) = (run(rate, count, false)?, run(rate, count, true)?);
    Ok((passing - reading).max(0.0))
}

/// Microseconds for each event.
fn run(rate: f64, count: usize, passes_on: bool) -> anyhow::Result<f64> {
    let (mut sender, mut upstream) = connected()?;
    let (mut downstream, mut receiver) = connected()?;
    let sending = thread::spawn(move || {
        let began = Instant::now();
        (0..count).try_for_each(|event| {
            let at = began + Duration::from_secs_f64(event as f64 / rate);
            thread::sleep(at.saturating_duration_since(Instant::now()));
            sender.write_all(&[b'.'; EVENT])
        })
    });
    let receiving = thread::spawn(move || {
        let mut event = [0; EVENT];
        while receiver.read(&mut event).is_ok_and(|length| length > 0) {}
    });
    let passing = thread::spawn(move || {
        let before = thread_time()?;
        let mut event = [0; EVENT];
        for _ in 0..count {
            upstream.read_exact(&mut event)?;
            if passes_on {
                downstream.write_all(&event)?;
            }
        }
        anyhow::Ok((thread_time()? - before) as f64 / count as f64)
    });
    let failed = |_| anyhow::anyhow!("a thread has panicked");
    let taken = passing.join().map_err(failed)??;
    sending.join().map_err(failed)??;
    receiving.join().map_err(failed)?;
    Ok(taken)
}

fn connected() -> anyhow::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    one.set_nodelay(true)?;
    other.set_nodelay(true)?;
    Ok((one, other))
}

/// Microseconds of this thread, in the program and in the kernel.
fn thread_time() -> anyhow::Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok(usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
}
