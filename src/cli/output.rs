//! What the commands print. Where nobody reads it any more, as behind `head`, the program ends.

use std::fmt::Display;
use std::io::{self, Write};
use std::process;

use crate::job::printable;

/// A text from elsewhere as it can be shown in a line.
pub(super) fn printable_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], "\u{fffd}")
}

/// Prints a line to standard output.
pub(super) fn print_line(line: impl Display) {
    print(io::stdout(), format_args!("{line}\n"));
}

/// Prints a text to standard output.
pub(super) fn print_text(text: impl Display) {
    print(io::stdout(), format_args!("{text}"));
}

/// Prints a line to standard error.
pub(super) fn print_note(line: impl Display) {
    print(io::stderr(), format_args!("{line}\n"));
}

/// Prints a text to standard error.
pub(super) fn print_to_stderr(text: impl Display) {
    print(io::stderr(), format_args!("{text}"));
}

/// Rings the bell of the terminal.
pub(super) fn print_bell() {
    print_to_stderr("\u{7}");
}

fn print(mut output: impl Write, text: std::fmt::Arguments<'_>) {
    let printed = output.write_fmt(text).and_then(|()| output.flush());
    // A full disk behind standard output is a failure that nothing else shows.
    match printed {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        Err(_) => process::exit(1),
    }
}
