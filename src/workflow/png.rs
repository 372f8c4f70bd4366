//! Texts in PNG files: ComfyUI writes the graph of a picture into it.

use super::error::WorkflowError;

/// The first bytes of every PNG file.
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Whether a file is a PNG file.
pub(super) fn is_png(file: &[u8]) -> bool {
    file.starts_with(SIGNATURE)
}

/// The text that a PNG file holds under a keyword; `None` if there is none. ComfyUI writes JSON of ASCII characters, for which
/// its library uses a `tEXt` chunk; other programs write `iTXt`. Nothing is unpacked: a few bytes could become gigabytes.
///
/// # Errors
///
/// If the text is compressed, or the file ends in the middle of a chunk before it.
pub(super) fn text<'a>(file: &'a [u8], keyword: &str) -> Result<Option<&'a [u8]>, WorkflowError> {
    let mut rest = file.strip_prefix(SIGNATURE).unwrap_or_default();
    // A chunk: the length of its data, its type, the data, and a checksum.
    while let Some((length, chunk)) = rest.split_first_chunk::<4>() {
        let cut = || WorkflowError::Png("it ends in the middle, as a download that broke off");
        let (kind, data) = chunk.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut())?;
        let data_and_sum = length.checked_add(4).ok_or_else(cut)?;
        let content = data.get(..data_and_sum).ok_or_else(cut)?;
        let named = content[..length].strip_prefix(keyword.as_bytes());
        if let Some(text) = named.and_then(|text| text.strip_prefix(b"\0")) {
            match kind {
                b"tEXt" => return Ok(Some(text)),
                b"iTXt" => return international(text).map(Some),
                b"zTXt" => return Err(COMPRESSED),
                _ => {}
            }
        }
        rest = &data[data_and_sum..];
    }
    Ok(None)
}

const COMPRESSED: WorkflowError = WorkflowError::Png(
    "its text is compressed, which ComfyUI does not do; open it in ComfyUI, and use \"Export (API)\"",
);

/// The text of an `iTXt` chunk behind its keyword: whether and how it is compressed, its language, the keyword in that, the text.
fn international(content: &[u8]) -> Result<&[u8], WorkflowError> {
    let broken = WorkflowError::Png("its text is broken");
    match content {
        [0, _, rest @ ..] => {
            let mut parts = rest.splitn(3, |byte| *byte == 0);
            parts.nth(2).ok_or(broken)
        }
        [1, ..] => Err(COMPRESSED),
        _ => Err(broken),
    }
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
        let last = chunk(b"tEXt", b"prompt\0{}");
        let file = [
            SIGNATURE,
            &chunk(b"IHDR", &[0; 13]),
            &chunk(b"tEXt", b"prompts\0no"),
            &chunk(b"zTXt", b"other\0\0zip"),
            &last,
        ]
        .concat();
        assert_eq!(text(&file, "prompt").unwrap(), Some(&b"{}"[..]));
        assert_eq!(text(&file, "workflow").unwrap(), None);
        for end in 0..file.len() {
            let found = text(&file[..end], "prompt");
            assert!(!matches!(found, Ok(Some(_))), "{end}: {found:?}");
        }
    }

    #[test]
    fn texts_of_other_chunks_are_read_or_named() {
        let found = |kind: &[u8; 4], data: &[u8]| {
            let file = [SIGNATURE, &chunk(kind, data)].concat();
            text(&file, "prompt")
                .map(|text| text.map(<[u8]>::to_vec))
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            found(b"iTXt", b"prompt\0\0\0de\0Bitte\0{}").unwrap(),
            Some(b"{}".to_vec())
        );
        for (kind, data, why) in [
            (b"iTXt", &b"prompt\0\x01\0\0\0zip"[..], "compressed"),
            (b"zTXt", b"prompt\0\0zip", "compressed"),
            (b"iTXt", b"prompt\0\0\0de", "broken"),
            (b"iTXt", b"prompt\0", "broken"),
        ] {
            let error = found(kind, data).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let long = [SIGNATURE, b"\xff\xff\xff\xfftEXtprompt\0{}"].concat();
        assert!(text(&long, "prompt").is_err());
    }
}
