//! [`InlinePreview`]: the newest preview of a job as a picture in the terminal.

mod area;
mod protocol;
mod sixel;

use std::io::Cursor;
use std::time::Duration;

use console::Term;
use image::{DynamicImage, ImageReader, Limits};
use indicatif::MultiProgress;
use ratatui::crossterm::terminal::{WindowSize, window_size};
use tokio::time::Instant;

use crate::cli::output::print_to_stderr;
use area::Area;
pub(super) use protocol::Protocol;

/// The shortest time between two pictures: a terminal may be at the other end of a slow line.
const INTERVAL: Duration = Duration::from_millis(400);

/// The most rows that a picture takes, and the largest share of the terminal.
const MAX_ROWS: u16 = 14;
const MAX_SHARE: u16 = 2;

/// The height of a row, in pixels, where the terminal does not say: that of a small font, so that no picture is higher
/// than the rows that it was given.
const ROW_HEIGHT: u16 = 14;

/// The largest width and height of a preview that is read, in pixels.
const MAX_SIDE: u32 = 8_192;

/// Whether previews are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum PreviewMode {
    /// Where the terminal is known to show pictures: kitty, Ghostty, iTerm2, WezTerm, mintty, foot and others with sixels
    Auto,
    /// In any terminal: as sixels where it is not known
    On,
    /// Never
    Off,
}

/// A picture above the bars, which newer ones replace.
#[derive(Debug)]
pub(super) struct InlinePreview {
    protocol: Protocol,
    /// The rows that the picture before this one takes.
    rows: Option<u16>,
    drawn_at: Option<Instant>,
}

impl PreviewMode {
    /// `None` where no previews are to be shown, or standard error is no terminal.
    pub(super) fn protocol(self) -> Option<Protocol> {
        let is_terminal = Term::stderr().is_term();
        let known = Protocol::of_terminal(|name| std::env::var(name).ok());
        match self {
            _ if !is_terminal => None,
            Self::Auto => known,
            Self::On => known.or(Some(Protocol::Sixel)),
            Self::Off => None,
        }
    }
}

impl InlinePreview {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            rows: None,
            drawn_at: None,
        }
    }

    /// Shows a binary message of a socket, unless the one before it was shown a moment ago. One that is no picture is
    /// left out.
    pub(super) fn show(&mut self, message: &[u8], bars: &MultiProgress) {
        if self.drawn_at.is_some_and(|at| at.elapsed() < INTERVAL) {
            return;
        }
        let Some(picture) = picture(message).and_then(decode) else {
            return;
        };
        self.drawn_at = Some(Instant::now());
        let (lines, columns) = Term::stderr().size();
        let rows = MAX_ROWS.min(lines / MAX_SHARE).max(1);
        let row_height = match window_size() {
            Ok(WindowSize { rows, height, .. }) if rows > 0 && height >= rows => height / rows,
            _ => ROW_HEIGHT,
        };
        let area = Area::of(&picture, rows, columns, row_height);
        let drawn = self.protocol.draw(&picture, area);
        let drawn = match drawn {
            Ok(drawn) => place(self.rows, rows, &drawn),
            Err(_) => return,
        };
        self.rows = Some(rows);
        bars.suspend(|| print_to_stderr(&drawn));
    }
}

/// What is printed at the start of the line below the picture before, or where the first one begins: the cursor ends at
/// the start of the line below the picture, whatever the terminal does with it while it draws.
fn place(before: Option<u16>, rows: u16, drawn: &str) -> String {
    let up = before.unwrap_or(0);
    let room = "\n".repeat(rows.into());
    let start = if up > 0 {
        format!("\x1b[{up}A\r\x1b[J")
    } else {
        "\r".to_owned()
    };
    format!("{start}{room}\x1b[{rows}A\x1b7{drawn}\x1b8\x1b[{rows}B\r")
}

/// The image in a binary message: a length of 4 bytes, that much JSON, the image.
fn picture(message: &[u8]) -> Option<&[u8]> {
    let (length, rest) = message.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    rest.get(length..)
}

fn decode(bytes: &[u8]) -> Option<DynamicImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .ok()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    reader.limits(limits);
    reader.decode().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_picture_takes_the_place_of_the_one_before() {
        let first = place(None, 2, "X");
        assert_eq!(first, "\r\n\n\x1b[2A\x1b7X\x1b8\x1b[2B\r");
        let next = place(Some(2), 2, "X");
        assert!(next.starts_with("\x1b[2A\r\x1b[J"), "{next:?}");
    }

    #[test]
    fn what_is_no_picture_is_left_out() {
        assert_eq!(picture(b"\0\0\0\x02{}image"), Some(&b"image"[..]));
        assert_eq!(picture(b"\0\0\0\x09{}"), None);
        assert_eq!(picture(b"\0\0"), None);
        assert!(decode(b"image").is_none());
    }
}
