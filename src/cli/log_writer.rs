//! Standard error as the log is written to it.

use std::io::{self, Write};

use crate::job::printable;

/// What the formatter of the log writes itself to color a line.
const ESCAPE: char = '\u{1b}';

/// Standard error, without characters in what is logged that would change the lines around them. Control sequences
/// are escaped by the formatter.
#[derive(Debug)]
pub(super) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let cleaned: Vec<_> = text.split(ESCAPE).map(printable).collect();
        let cleaned = cleaned.join("\u{1b}");
        io::stderr().write_all(cleaned.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
