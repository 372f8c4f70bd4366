//! The WebSocket frames that a client needs that only receives (RFC 6455, section 5.2).

/// A client's close frame with the code 1000, masked with zeros.
pub(crate) const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];

/// The pong to an empty ping, masked with zeros.
pub(crate) const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// The opcodes of the frames that a server sends.
pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSING: u8 = 8;
pub(crate) const PING: u8 = 9;

/// A frame of a server: not masked, and never fragmented here.
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
}

/// Removes the first whole frame from the data; `None` if it is incomplete.
pub(crate) fn take<'a>(data: &mut &'a [u8]) -> Option<Frame<'a>> {
    let (&[first, second], rest) = data.split_first_chunk()?;
    let (length, rest) = match second & 0x7f {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
        }
        length => (usize::from(length), rest),
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    *data = rest;
    Some(Frame {
        kind: first & 0x0f,
        payload,
    })
}

/// A whole text frame of a server.
pub(crate) fn text(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | TEXT];
    match u16::try_from(payload.len()) {
        Ok(length @ ..126) => frame.push(length as u8),
        Ok(length) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}
