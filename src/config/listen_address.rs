//! How the address to listen on is read.

use std::net::{Ipv4Addr, SocketAddr};

/// Reads `HOST:PORT`, where `HOST` is an IP address. A port of loopback can be written as `PORT`, `:PORT` or
/// `localhost:PORT`: a short form must not open the relay to other machines.
pub fn parse_listen_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    let local = text.strip_prefix("localhost:").or(text.strip_prefix(':'));
    if let Ok(port) = local.unwrap_or(text).parse() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| {
        "expected HOST:PORT with an IP address, such as 127.0.0.1:8328 or 0.0.0.0:8328, or the PORT alone".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_loopback() {
        for text in ["9001", ":9001", "localhost:9001", " 127.0.0.1:9001 "] {
            let address = parse_listen_address(text).unwrap();
            assert_eq!(address.to_string(), "127.0.0.1:9001", "{text}");
        }
        for text in ["0.0.0.0:9001", "[::]:9001", "192.0.2.1:9001"] {
            assert_eq!(parse_listen_address(text).unwrap().to_string(), text);
        }
        for wrong in [
            "",
            ":",
            "localhost",
            "99999",
            "host:9001",
            "127.0.0.1",
            "[::1]",
        ] {
            assert!(parse_listen_address(wrong).is_err(), "{wrong}");
        }
    }
}
