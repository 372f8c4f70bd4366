use super::error::AuthError;
use super::keys::{Keys, KeysError};
use super::permissions::Permissions;
use super::token::Token;
use crate::config::AccessConfig;

/// Verifies tokens, or permits everything if no keys are configured.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Option<Keys>,
}

impl Verifier {
    /// Loads the configured keys.
    pub(crate) fn load(config: &AccessConfig) -> Result<Self, KeysError> {
        Ok(Self {
            keys: Keys::load(config)?,
        })
    }

    /// What a token permits.
    pub(crate) fn verify(&self, token: Option<&Token>) -> Result<Permissions, AuthError> {
        let Some(keys) = &self.keys else {
            return Ok(Permissions::everything());
        };
        let token = token.ok_or(AuthError::MissingToken)?;
        keys.check(token)
            .map(Permissions::of)
            .map_err(AuthError::InvalidToken)
    }

    /// Reads the key file again if it has changed. Blocks.
    pub(crate) fn refresh(&self) {
        if let Some(keys) = &self.keys {
            keys.refresh();
        }
    }
}
