//! How terminals are sent pictures.

use std::fmt::Write;
use std::io::Cursor;
use std::process;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageFormat, ImageResult};

use super::area::Area;
use super::sixel::sixels;

/// The longest piece of a picture that kitty takes at a time.
const CHUNK: usize = 4_096;

/// A protocol for pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Protocol {
    /// Of kitty, which Ghostty has, too.
    Kitty,
    /// Of iTerm2, which WezTerm and mintty have, too.
    Iterm2,
    /// Of terminals of DEC: foot, mlterm, xterm and others.
    Sixel,
}

impl Protocol {
    /// The one of the terminal that the environment describes, if it is known to have one. A multiplexer passes pictures
    /// on only where it is set up to do so.
    pub(super) fn of_terminal(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let value = |name| variable(name).unwrap_or_default();
        let (term, program) = (value("TERM"), value("TERM_PROGRAM"));
        let is_multiplexed = ["screen", "tmux"].iter().any(|name| term.starts_with(name));
        if is_multiplexed || !value("TMUX").is_empty() {
            return None;
        }
        let is_kitty = !value("KITTY_WINDOW_ID").is_empty()
            || ["xterm-kitty", "xterm-ghostty"].contains(&&*term)
            || program == "ghostty";
        if is_kitty {
            return Some(Self::Kitty);
        }
        let is_iterm = ["iTerm.app", "WezTerm", "mintty"].contains(&&*program)
            || value("LC_TERMINAL") == "iTerm2";
        if is_iterm {
            return Some(Self::Iterm2);
        }
        let names = ["foot", "mlterm", "contour"];
        let has_sixels = names.iter().any(|name| term.starts_with(name)) || term.contains("sixel");
        has_sixels.then_some(Self::Sixel)
    }

    /// The picture as the terminal takes it, at the cursor.
    pub(super) fn draw(self, picture: &DynamicImage, area: Area) -> ImageResult<String> {
        let small = picture.thumbnail(area.width, area.height);
        match self {
            Self::Kitty => Ok(kitty(&png(&small)?, area)),
            Self::Iterm2 => Ok(iterm2(&png(&small)?, area)),
            Self::Sixel => Ok(sixels(&small.to_rgb8())),
        }
    }
}

fn png(picture: &DynamicImage) -> ImageResult<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    picture.to_rgb8().write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// The picture replaces the one before with the same number. The terminal sends no answer, which would be typed into the
/// shell.
fn kitty(png: &[u8], Area { columns, rows, .. }: Area) -> String {
    let encoded = STANDARD.encode(png);
    let number = process::id();
    let mut text = String::with_capacity(encoded.len() + 64);
    let mut head = format!("a=T,f=100,i={number},p=1,q=2,C=1,c={columns},r={rows},");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK));
        let goes_on = u8::from(!after.is_empty());
        // Writing to a string cannot fail.
        let _ = write!(text, "\x1b_G{head}m={goes_on};{chunk}\x1b\\");
        head.clear();
        rest = after;
    }
    text
}

fn iterm2(png: &[u8], Area { columns, rows, .. }: Area) -> String {
    let (size, encoded) = (png.len(), STANDARD.encode(png));
    format!(
        "\x1b]1337;File=inline=1;size={size};width={columns};height={rows};preserveAspectRatio=1:{encoded}\x07"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_known_by_its_environment() {
        for (variables, protocol) in [
            (&[("TERM", "xterm-kitty")][..], Some(Protocol::Kitty)),
            (
                &[("TERM", "xterm-256color"), ("KITTY_WINDOW_ID", "1")],
                Some(Protocol::Kitty),
            ),
            (&[("TERM_PROGRAM", "WezTerm")], Some(Protocol::Iterm2)),
            (&[("LC_TERMINAL", "iTerm2")], Some(Protocol::Iterm2)),
            (&[("TERM", "foot")], Some(Protocol::Sixel)),
            (&[("TERM", "yaft-256color-sixel")], Some(Protocol::Sixel)),
            (&[("TERM", "xterm-256color")], None),
            (&[("TERM", "tmux-256color"), ("KITTY_WINDOW_ID", "1")], None),
            (&[("TMUX", "/tmp/tmux"), ("TERM_PROGRAM", "WezTerm")], None),
            (&[], None),
        ] {
            let found = Protocol::of_terminal(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            });
            assert_eq!(found, protocol, "{variables:?}");
        }
    }

    #[test]
    fn kitty_gets_a_large_picture_in_pieces() {
        let area = Area {
            columns: 8,
            rows: 4,
            height: 1,
            width: 1,
        };
        let text = kitty(&[7; 7_000], area);
        let pieces: Vec<&str> = text.split_terminator("\x1b\\").collect();
        assert_eq!(pieces.len(), 3);
        assert!(pieces[0].starts_with("\x1b_Ga=T,f=100,") && pieces[0].contains("c=8,r=4,m=1;"));
        assert!(pieces[1].starts_with("\x1b_Gm=1;") && pieces[2].starts_with("\x1b_Gm=0;"));
        let encoded: String = pieces
            .iter()
            .map(|piece| piece.split_once(';').unwrap().1)
            .collect();
        assert_eq!(STANDARD.decode(encoded).unwrap(), [7; 7_000]);
    }
}
