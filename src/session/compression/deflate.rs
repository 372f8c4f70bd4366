use flate2::{Compress, Compression, FlushCompress, Status};

use super::BLOCK_END;

/// Compresses messages without context takeover: none refers to an earlier one.
///
/// Its tables, some 300 KB, are made for the first message and used again for every later one: to make
/// them takes several times as long as to compress a message.
#[derive(Debug, Default)]
pub(in crate::session) struct Deflater(Option<Compress>);

impl Deflater {
    /// The payload of a compressed message; `None` if it would not be shorter.
    pub(in crate::session) fn deflate(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let compress = self
            .0
            .get_or_insert_with(|| Compress::new(Compression::fast(), false));
        compress.reset();
        let mut deflated = Vec::with_capacity(payload.len());
        let status = compress.compress_vec(payload, &mut deflated, FlushCompress::Sync);
        let is_whole =
            matches!(status, Ok(Status::Ok)) && compress.total_in() == payload.len() as u64;
        deflated
            .strip_suffix(&BLOCK_END)
            .filter(|_| is_whole)
            .map(<[u8]>::to_vec)
    }
}
