use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::config::{ComfyConfig, Secret};

/// The key with which partner nodes call their services, for submissions that bring none of their own.
#[derive(Debug)]
pub(super) struct ApiKey {
    /// Where it is read again for each prompt: it may be renewed there.
    file: Option<PathBuf>,
    /// The one that was read last.
    newest: Mutex<Secret>,
}

/// The file of a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// It holds no text.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
}

impl ApiKey {
    /// The configured key. A file must hold one now.
    pub(super) fn new(config: &ComfyConfig) -> Result<Option<Self>, ApiKeyError> {
        let file = config.api_key_file.clone();
        let key = match &file {
            Some(file) => Some(key_in(file, std::fs::read_to_string(file))?),
            None => config.api_key.clone(),
        };
        Ok(key.map(|key| Self {
            file,
            newest: Mutex::new(key),
        }))
    }

    /// The key as it is now. A file that is gone does not take the last one away: graphs without partner nodes need none.
    pub(super) async fn read(&self) -> Secret {
        if let Some(file) = &self.file {
            match read(file).await {
                Ok(key) => *self.newest() = key,
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot use the file of the API key, going on with the last one (COMFY_API_KEY_FILE)"
                ),
            }
        }
        self.newest().clone()
    }

    fn newest(&self) -> std::sync::MutexGuard<'_, Secret> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(file: &Path) -> Result<Secret, ApiKeyError> {
    key_in(file, tokio::fs::read_to_string(file).await)
}

/// The key in the text of a file, which may end with a line break.
fn key_in(file: &Path, text: io::Result<String>) -> Result<Secret, ApiKeyError> {
    let text = text.map_err(|source| ApiKeyError::Unreadable {
        path: file.to_owned(),
        source,
    })?;
    match text.trim() {
        "" => Err(ApiKeyError::Empty(file.to_owned())),
        key => Ok(Secret::from(key.to_owned())),
    }
}
