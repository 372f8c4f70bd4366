//! A relay at its limit of open files.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::program::Program;
use crate::support::wait::PATIENCE;

/// Enough to start, and soon used up.
const FILES: u32 = 80;

async fn is_served(program: &Program, patience: Duration) -> bool {
    let request = async {
        let mut stream = TcpStream::connect(program.address()).await.ok()?;
        let request =
            b"GET /api/anime/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer.starts_with("HTTP/1.1 200"))
    };
    timeout(patience, request)
        .await
        .ok()
        .flatten()
        .unwrap_or(false)
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_of_open_files_the_relay_waits_and_goes_on() {
    let program = Program::start_with_files(&[], &[], FILES);
    program.ready().await;
    program
        .logs(&format!("at most {FILES} files can be open"))
        .await;
    let mut open = Vec::new();
    for _ in 0..FILES * 2 {
        open.push(TcpStream::connect(program.address()).await.unwrap());
    }
    program.logs("cannot accept connections").await;
    // The relay retries many times and logs once.
    assert!(!is_served(&program, Duration::from_secs(2)).await);
    let log = program.log();
    let count = |text| log.matches(text).count();
    // Any file that is closed meanwhile lets one in.
    let ended = count("accepting connections again");
    assert_eq!(count("cannot accept connections"), ended + 1, "{log}");
    program
        .logs("file descriptors in use; raise the limit")
        .await;
    drop(open);
    program.logs("accepting connections again").await;
    assert!(is_served(&program, PATIENCE).await, "{}", program.log());
}
