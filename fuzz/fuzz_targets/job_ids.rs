//! Job ids: exactly the texts that follow the documented rules are accepted.
#![no_main]

use comfy_relay::job::{JobId, JobIdError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    let is_reserved = ["monitor", "jobs", "events", ".", ".."].contains(&text);
    let is_id = (1..=128).contains(&text.len()) && text.bytes().all(is_plain) && !is_reserved;
    match JobId::parse(text) {
        Ok(id) => {
            assert!(is_id);
            assert_eq!(id.as_str(), text);
            assert_eq!(id.to_string(), text);
            assert_eq!(JobId::parse(id.as_str()), Ok(id.clone()));
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(json, format!("\"{text}\""));
        }
        Err(error) => {
            assert!(!is_id);
            match &error {
                JobIdError::Length { found } => assert_eq!(*found, text.chars().count()),
                JobIdError::Character { found } => assert!(text.contains(*found)),
                JobIdError::Reserved { found } | JobIdError::Folder { found } => {
                    assert_eq!(found, text);
                }
                JobIdError::Group => panic!("`check_job` alone refuses the name of a group"),
            }
            assert!(!error.to_string().contains('\n'));
        }
    }
});
