//! Seals keys of partner nodes, as long as the jobs they are for wait in the database.
//!
//! The key for that lies in a file beside the database, never in it: a copy of the database shows no keys of partner nodes.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::job::JobId;

/// How many bytes the key has.
const KEY_LEN: usize = 32;

/// Seals and opens keys of partner nodes (AES-256-GCM, each under a nonce of its own, bound to its job).
#[derive(Debug)]
pub(in crate::relay) struct Seal {
    /// Where the key is; `None` for one that ends with the program.
    file: Option<PathBuf>,
    key: OnceLock<Option<RandomizedNonceKey>>,
}

impl Seal {
    /// A seal with the key in this file, which is made when it is first needed.
    pub(in crate::relay) fn new(file: Option<PathBuf>) -> Self {
        Self {
            file,
            key: OnceLock::new(),
        }
    }

    /// Seals keys; `None` if there are none, or they cannot be sealed: then they are in memory alone.
    pub(super) fn seal(&self, id: &JobId, keys: &Map<String, Value>) -> Option<Vec<u8>> {
        if keys.is_empty() {
            return None;
        }
        let mut sealed = serde_json::to_vec(keys).ok()?;
        let aad = Aad::from(id.as_str().as_bytes());
        let nonce = self
            .key()?
            .seal_in_place_append_tag(aad, &mut sealed)
            .ok()?;
        sealed.extend_from_slice(nonce.as_ref());
        Some(sealed)
    }

    /// The inverse of [`Seal::seal`]; `None` if they were sealed with another key.
    pub(super) fn open(&self, id: &JobId, sealed: &[u8]) -> Option<Map<String, Value>> {
        let (text, nonce) = sealed.split_last_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::from(nonce);
        let aad = Aad::from(id.as_str().as_bytes());
        let mut text = text.to_vec();
        let opened = self.key()?.open_in_place(nonce, aad, &mut text).ok()?;
        serde_json::from_slice(opened).ok()
    }

    fn key(&self) -> Option<&RandomizedNonceKey> {
        let read = || match self.file.as_deref().map_or_else(random, read_or_make) {
            Ok(key) => RandomizedNonceKey::new(&AES_256_GCM, &key).ok(),
            Err(error) => {
                let file = self.file.as_deref().unwrap_or(Path::new("")).display();
                tracing::warn!(
                    %file, %error,
                    "cannot read or make the key for keys of partner nodes (--queue-key-file, QUEUE_KEY_FILE): jobs that \
                     wait with such keys lose them when the relay ends"
                );
                None
            }
        };
        self.key.get_or_init(read).as_ref()
    }
}

fn random() -> io::Result<[u8; KEY_LEN]> {
    let mut key = [0; KEY_LEN];
    rand::fill(&mut key).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(key)
}

/// Reads the key, or makes one that only the user of this process can read. Of two relays that make one, the first counts.
fn read_or_make(file: &Path) -> io::Result<[u8; KEY_LEN]> {
    match read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    // Written whole under another name: nobody reads a part of it.
    let draft = file.with_extension(Uuid::new_v4().to_string());
    let key = random()?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut made = options.open(&draft)?;
    let written = made.write_all(&key).and_then(|()| made.sync_all());
    let placed = written.and_then(|()| fs::hard_link(&draft, file));
    // If that fails, a file is left that nobody reads.
    let _ = fs::remove_file(&draft);
    match placed {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(file),
        Err(error) => Err(error),
    }
}

fn read(file: &Path) -> io::Result<[u8; KEY_LEN]> {
    let mut key = Vec::new();
    let opened = fs::File::open(file)?;
    opened.take(KEY_LEN as u64 + 1).read_to_end(&mut key)?;
    key.try_into().map_err(|_| {
        io::Error::other(format!(
            "the key has {KEY_LEN} bytes; remove the file to have a new one made"
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys() -> Map<String, Value> {
        let keys = json!({"api_key_comfy_org": "comfyui-secret"});
        keys.as_object().unwrap().clone()
    }

    #[test]
    fn keys_are_opened_by_whoever_has_the_file_and_for_their_job_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made").join("queue.key");
        let id = JobId::parse("job").unwrap();
        let sealed = Seal::new(Some(file.clone())).seal(&id, &keys()).unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("secret"));
        let again = Seal::new(Some(file));
        assert_eq!(again.open(&id, &sealed), Some(keys()));
        assert_eq!(again.open(&JobId::parse("other").unwrap(), &sealed), None);
        assert_eq!(Seal::new(None).open(&id, &sealed), None);
        assert_eq!(again.open(&id, b"short"), None);
        assert_ne!(again.seal(&id, &keys()), again.seal(&id, &keys()));
        assert_eq!(again.seal(&id, &Map::new()), None);
    }

    #[test]
    fn a_file_that_is_no_key_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("queue.key");
        fs::write(&file, "short").unwrap();
        let id = JobId::parse("job").unwrap();
        assert_eq!(Seal::new(Some(file.clone())).seal(&id, &keys()), None);
        assert_eq!(fs::read_to_string(file).unwrap(), "short");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_the_key() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("queue.key");
        Seal::new(Some(file.clone()))
            .seal(&JobId::parse("job").unwrap(), &keys())
            .unwrap();
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
