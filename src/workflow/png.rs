//! Texts in PNG files: ComfyUI writes the graph of a picture into it.

/// The first bytes of every PNG file.
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Whether a file is a PNG file.
pub(super) fn is_png(file: &[u8]) -> bool {
    file.starts_with(SIGNATURE)
}

/// The text that a PNG file holds under a keyword in a `tEXt` chunk. ComfyUI writes JSON of ASCII characters, for which
/// its library uses no other chunk.
pub(super) fn text<'a>(file: &'a [u8], keyword: &str) -> Option<&'a [u8]> {
    let mut rest = file.strip_prefix(SIGNATURE)?;
    // A chunk: the length of its data, its type, the data, and a checksum.
    while let Some((length, chunk)) = rest.split_first_chunk::<4>() {
        let (kind, data) = chunk.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let text = data.get(..length)?;
        let named = text.strip_prefix(keyword.as_bytes());
        if kind == b"tEXt"
            && let Some(text) = named.and_then(|text| text.strip_prefix(b"\0"))
        {
            return Some(text);
        }
        rest = data.get(length..)?.get(4..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&length[..], kind, data, b"crc!"].concat()
    }

    #[test]
    fn a_text_is_found_behind_other_chunks() {
        let file = [
            SIGNATURE,
            &chunk(b"IHDR", &[0; 13]),
            &chunk(b"tEXt", b"prompts\0no"),
            &chunk(b"tEXt", b"prompt\0{}"),
        ]
        .concat();
        assert_eq!(text(&file, "prompt"), Some(&b"{}"[..]));
        assert_eq!(text(&file, "workflow"), None);
        for end in 0..file.len() {
            assert_eq!(text(&file[..end.min(file.len() - 7)], "prompt"), None);
        }
    }
}
